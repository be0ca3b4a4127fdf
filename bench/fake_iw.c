/* Prints the file that is named after its question, as fast as a program can: the price of a start, not of a radio. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096];
	char buffer[65536];
	ssize_t n;
	int file;

	snprintf(path, sizeof(path), "%s", argv[0]);
	*strrchr(path, '/') = 0;
	for (int i = 3; i < argc; i++) {
		strncat(path, i == 3 ? "/" : "_", sizeof(path) - strlen(path) - 1);
		strncat(path, argv[i], sizeof(path) - strlen(path) - 1);
	}
	strncat(path, ".txt", sizeof(path) - strlen(path) - 1);
	file = open(path, O_RDONLY);
	if (file < 0)
		return 161;
	while ((n = read(file, buffer, sizeof(buffer))) > 0)
		if (write(1, buffer, n) < 0)
			return 1;
	return 0;
}
