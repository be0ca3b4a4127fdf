/* A wire between two namespaces with known faults: one TUN device in each, one process that carries the packets.
 *
 * Usage: relay NAMESPACE NAMESPACE DEVICE
 *
 * Each direction (0: from the first namespace, 1: from the second) is a queue that empties at a rate, then a delay.
 * A packet's times are computed from its arrival, not from when this process woke up, so that lateness does not add up.
 * Commands on stdin, a line each, `DIRECTION NAME VALUE`; `count` prints one line of JSON. The end of stdin ends it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MTU = 2048, RING = 1 << 16, PLACES = 1 << 16, BATCH = 16 };
enum { EARLY_NS = 50000 }; /* what a timer of an idle machine is late, taken off; it also joins some wake-ups */
enum { LOSE = 1, DUPLICATE = 2, LATE = 4 };

struct packet {
    struct packet *next;
    int64_t arrived, due;
    int length, matches, late;
    unsigned char data[MTU];
};

struct counts {
    uint64_t packets, bytes, lost, dropped, duplicated, sent, sent_bytes;
};

struct direction {
    int from, to;
    /* settings */
    int64_t delay_ns, late_ns;
    double rate, loss; /* bits a second, 0: no queue; probability */
    int64_t limit, every, port, only;
    uint64_t random;
    unsigned char places[PLACES];
    /* ring[head..sending) are under way, in the order of their due times; ring[sending..tail) wait in the queue */
    struct packet *ring[RING];
    uint32_t head, sending, tail;
    int64_t free_at, last_due, queued;
    uint64_t place, refused;
    struct counts all, matching; /* matching: UDP to or from `port` */
} directions[2];

static struct packet *spare;

static void die(const char *what) { perror(what), exit(1); }

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_tun(const char *space, const char *device) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", space);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    if (there < 0 || setns(there, CLONE_NEWNET)) die(path);
    close(there);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) die("/dev/net/tun");
    return fd;
}

static int is_udp_of(const struct packet *p, int64_t port) {
    const unsigned char *ip = p->data, *udp;
    if (ip[0] >> 4 == 4 && ip[9] == 17) udp = ip + (ip[0] & 15) * 4;
    else if (ip[0] >> 4 == 6 && ip[6] == 17) udp = ip + 40;
    else return 0;
    return udp + 4 <= ip + p->length && ((udp[0] << 8 | udp[1]) == port || (udp[2] << 8 | udp[3]) == port);
}

static double chance(struct direction *d) { /* xorshift64*: the same losses for the same seed */
    d->random ^= d->random >> 12, d->random ^= d->random << 25, d->random ^= d->random >> 27;
    return (d->random * 2685821657736338717ULL >> 11) * 0x1p-53;
}

static struct packet *take(void) {
    struct packet *p = spare;
    if (p) spare = p->next;
    else if (!(p = malloc(sizeof *p))) die("malloc");
    return p;
}

static void give(struct packet *p) { p->next = spare, spare = p; }

#define COUNT(d, p, name, n) ((d)->all.name += (n), (p)->matches ? (d)->matching.name += (n) : 0)

static void enqueue(struct direction *d, struct packet *p) {
    if ((d->rate > 0 && d->queued + p->length > d->limit) || d->tail - d->head == RING) {
        COUNT(d, p, dropped, 1);
        give(p);
        return;
    }
    d->queued += p->length;
    d->ring[d->tail++ % RING] = p;
}

static void arrive(struct direction *d, struct packet *p) {
    p->matches = d->port && is_udp_of(p, d->port);
    p->late = 0;
    COUNT(d, p, packets, 1);
    COUNT(d, p, bytes, p->length);
    int fate = 0;
    if (p->matches || !d->only) {
        uint64_t place = d->place++;
        fate = place < PLACES ? d->places[place] : 0;
        if (d->every && d->place % d->every == 0) fate |= LOSE;
        if (d->loss > 0 && chance(d) < d->loss) fate |= LOSE;
    }
    if (fate & LOSE) {
        COUNT(d, p, lost, 1);
        give(p);
        return;
    }
    p->late = !!(fate & LATE);
    struct packet *twin = NULL;
    if (fate & DUPLICATE) {
        twin = take();
        memcpy(twin, p, offsetof(struct packet, data) + p->length);
        COUNT(d, p, duplicated, 1);
    }
    enqueue(d, p);
    if (twin) enqueue(d, twin);
}

/* When the first packet in the queue will have been sent. */
static int64_t sent_at(const struct direction *d) {
    const struct packet *p = d->ring[d->sending % RING];
    if (d->rate <= 0) return p->arrived;
    return (d->free_at > p->arrived ? d->free_at : p->arrived) + (int64_t)(p->length * 8e9 / d->rate);
}

/* Let packets leave the queue that have been sent by now; each gets its due time and its place by it. */
static void transmit(struct direction *d, int64_t at) {
    while (d->sending != d->tail) {
        struct packet *p = d->ring[d->sending % RING];
        int64_t end = sent_at(d);
        if (end > at) return;
        d->free_at = end;
        d->queued -= p->length;
        p->due = end + d->delay_ns;
        if (p->due < d->last_due) p->due = d->last_due; /* a shorter delay from now on lets nobody overtake */
        d->last_due = p->due;
        if (p->late) p->due += d->late_ns;
        uint32_t i = d->sending++;
        for (; i != d->head && d->ring[(i - 1) % RING]->due > p->due; i--) d->ring[i % RING] = d->ring[(i - 1) % RING];
        d->ring[i % RING] = p;
    }
}

static void deliver(struct direction *d, int64_t at) {
    while (d->head != d->sending && d->ring[d->head % RING]->due <= at + EARLY_NS) {
        struct packet *p = d->ring[d->head++ % RING];
        if (write(d->to, p->data, p->length) == p->length) COUNT(d, p, sent, 1), COUNT(d, p, sent_bytes, p->length);
        else d->refused++;
        give(p);
    }
}

static int64_t next_event(const struct direction *d) {
    int64_t at = INT64_MAX, early = d->delay_ns < EARLY_NS ? d->delay_ns : EARLY_NS;
    if (d->head != d->sending) at = d->ring[d->head % RING]->due - EARLY_NS;
    if (d->sending != d->tail && sent_at(d) + d->delay_ns - early < at) at = sent_at(d) + d->delay_ns - early;
    return at;
}

static void print_counts(const char *name, const struct counts *c) {
    printf("\"%s\": {\"packets\": %lu, \"bytes\": %lu, \"lost\": %lu, \"dropped\": %lu, \"duplicated\": %lu, "
           "\"sent\": %lu, \"sent_bytes\": %lu}, ",
           name, c->packets, c->bytes, c->lost, c->dropped, c->duplicated, c->sent, c->sent_bytes);
}

static void print_all(void) {
    for (int i = 0; i < 2; i++) {
        struct direction *d = &directions[i];
        printf(i ? ", {" : "[{");
        print_counts("all", &d->all);
        print_counts("matching", &d->matching);
        printf("\"queue_bytes\": %ld, \"queue_ms\": %.3f, \"under_way\": %u, \"refused\": %lu}", d->queued,
               d->rate > 0 ? d->queued * 8e3 / d->rate : 0.0, d->sending - d->head, d->refused);
    }
    printf("]\n");
    fflush(stdout);
}

static void obey(char *line) {
    char name[16];
    int which, used = 0;
    double value;
    if (!strncmp(line, "count", 5)) return print_all();
    if (sscanf(line, "%d %15s %lf%n", &which, name, &value, &used) < 3 || which < 0 || which > 1 || line[used]) {
        fprintf(stderr, "not understood: %s\n", line);
        exit(2);
    }
    struct direction *d = &directions[which];
    int fate = !strcmp(name, "lose") ? LOSE : !strcmp(name, "duplicate") ? DUPLICATE : !strcmp(name, "late") ? LATE : 0;
    if (fate && value >= 0 && value < PLACES) d->places[(int)value] |= fate;
    else if (!strcmp(name, "restart")) d->place = 0, memset(d->places, 0, PLACES);
    else if (!strcmp(name, "delay_ns")) d->delay_ns = value;
    else if (!strcmp(name, "late_ns")) d->late_ns = value;
    else if (!strcmp(name, "rate")) d->rate = value, d->free_at = now();
    else if (!strcmp(name, "limit")) d->limit = value;
    else if (!strcmp(name, "loss")) d->loss = value;
    else if (!strcmp(name, "every")) d->every = value;
    else if (!strcmp(name, "seed")) d->random = (uint64_t)value * 0x9E3779B97F4A7C15ULL | 1;
    else if (!strcmp(name, "port")) d->port = value;
    else if (!strcmp(name, "only")) d->only = value;
    else fprintf(stderr, "not understood: %s\n", line), exit(2);
}

static void read_commands(void) {
    static char text[1 << 16];
    static size_t length;
    ssize_t more = read(STDIN_FILENO, text + length, sizeof text - 1 - length);
    if (more <= 0) exit(0);
    length += more;
    text[length] = 0;
    char *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1) *end = 0, obey(line);
    memmove(text, line, length -= line - text);
}

int main(int count, char **words) {
    if (count != 4) return fprintf(stderr, "usage: relay NAMESPACE NAMESPACE DEVICE\n"), 2;
    int first = open_tun(words[1], words[3]), second = open_tun(words[2], words[3]);
    directions[0].from = directions[1].to = first;
    directions[1].from = directions[0].to = second;
    directions[0].random = directions[1].random = 1;
    prctl(PR_SET_TIMERSLACK, 1);
    /* Ahead of the programs under test, where permitted: it stands for a wire, which does not wait for a processor. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 50});
    mlockall(MCL_CURRENT | MCL_FUTURE);
    print_all();
    struct pollfd ready[] = {{first, POLLIN, 0}, {second, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        int64_t at = now(), next = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            transmit(&directions[i], at);
            deliver(&directions[i], at);
            int64_t event = next_event(&directions[i]);
            if (event < next) next = event;
        }
        int64_t wait = next == INT64_MAX ? 1000000000 : next - now();
        if (wait < 0) wait = 0;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        if (ppoll(ready, 3, &timeout, NULL) <= 0) continue;
        for (int i = 0; i < 2; i++) {
            if (!(ready[i].revents & POLLIN)) continue;
            struct packet *p;
            for (int n = 0; n < BATCH; n++) {
                p = take();
                if ((p->length = read(directions[i].from, p->data, MTU)) <= 0) {
                    give(p);
                    break;
                }
                p->arrived = now();
                arrive(&directions[i], p);
            }
        }
        if (ready[2].revents) read_commands();
    }
}
