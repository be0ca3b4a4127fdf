"""Every field of every driver family: what a driver does not tell is null."""

import pytest

from agent.wifi import channels, link, names, scan, station, survey, wireless
from agent.wifi.channels import Channel
from agent.wifi.link import Link
from agent.wifi.rates import Rate, parse
from agent.wifi.scan import Load
from agent.wifi.station import Station
from agent.wifi.survey import Survey
from agent.wifi.wireless import Wireless
from tests.agent.wifi.families import NAMES, text

AP = "00:00:5e:00:53:01"

LINKS = {
    "hwsim": Link(True, "02:00:00:00:00:00", "02:00:00:00:00:00", "test-lib", 2437),
    "iwlwifi": Link(True, AP, AP, "i-Shanghai 图书馆", 5180),
    "ath9k": Link(True, AP, AP, "venue", 2437),
    "ath10k": Link(True, AP, AP, "venue", 5745),
    "ath11k": Link(True, AP, AP, "venue", 5500),
    "mt76": Link(True, AP, AP, "venue", 5180),
    "brcmfmac": Link(True, AP, AP, "venue", 2462),
    "rtw88": Link(True, AP, AP, "venue", 5765),
    "rtw89": Link(True, AP, AP, "图书馆", 5220),
    "eht_mlo": Link(True, "00:00:5e:00:53:0a", "00:00:5e:00:53:0b", "venue 7", 6135),
    "unassociated": Link(False),
    "empty": Link(),
    "wext": Link(),
}

AT = {"associated_at_s": 808324.101, "connected_s": 4021}
STATIONS = {
    "hwsim": Station(-30, Rate(13.0, 1, 1), Rate(130.0, 15, 2), 15, 0, 0, 0, 12.034, 3),
    "iwlwifi": Station(-61, Rate(866.7, 9, 2), Rate(780.0, 8, 2), 91022, 3120, 11, 0, **AT),
    "ath9k": Station(-54, Rate(300.0, 15, 2), Rate(120.0, 11, 2), 91022, 3120, 11, 0, **AT),
    "ath10k": Station(-67, Rate(650.0, 7, 2), Rate(585.0, 4, 3), 91022, None, 92, None, **AT),
    "ath11k": Station(-58, Rate(1201.0, 11, 2), Rate(1080.6, 10, 2), 91022, 40112, 3, 0, **AT),
    "mt76": Station(-49, Rate(2401.9, 11, 2), Rate(2161.3, 10, 2), 91022, 210, 0, 0, **AT),
    "brcmfmac": Station(-66, Rate(72.2), Rate(65.0), 9102, None, 7, None, 1201.881, 811),
    "rtw88": Station(-72, Rate(390.0, 4, 2), Rate(351.0, 4, 2), 91022, 0, 210, 0, None, 4021),
    "rtw89": Station(-55, Rate(600.4, 11, 1), Rate(6.0), 91022, 55, 2, 0, **AT),
    "eht_mlo": Station(-51, Rate(5764.7, 13, 2), Rate(5187.0, 12, 2), 91022, 300, 0, 0, **AT),
}

SURVEYS = {
    "hwsim": Survey(-92, 68, 8),
    "ath9k": Survey(-94, 4021330, 1688958),
    "ath10k": Survey(-103, 8812345, 2203086),
    "ath11k": Survey(-96, 702113, 91234),
    "mt76": Survey(-91, 901234, 88120),
    "rtw89": Survey(-93, 601, 77),
    "eht_mlo": Survey(-95, 500000, 10000),
}

CHANNELS = {
    "hwsim": (Channel(20, ((2427, 2447),)), 6, "2.4"),
    "iwlwifi": (Channel(80, ((5170, 5250),)), 36, "5"),
    "ath9k": (Channel(40, ((2427, 2467),)), 6, "2.4"),
    "ath10k": (Channel(80, ((5735, 5815),)), 149, "5"),
    "ath11k": (Channel(80, ((5490, 5570),)), 100, "5"),
    "mt76": (Channel(160, ((5170, 5330),)), 36, "5"),
    "brcmfmac": (Channel(20, ((2452, 2472),)), 11, "2.4"),
    "rtw88": (Channel(80, ((5735, 5815),)), 153, "5"),
    "rtw89": (Channel(80, ((5170, 5250),)), 44, "5"),
    "eht_mlo": (Channel(320, ((6105, 6425),)), 37, "6"),
}

LOADS = {
    "hwsim": Load(0, 0.0),
    "iwlwifi": Load(23, 107 / 255),
    "ath9k": Load(31, 180 / 255),
    "ath11k": Load(4, 31 / 255),
    "mt76": Load(12, 22 / 255),
    "brcmfmac": Load(9, 0.2),
    "rtw89": Load(0, 3 / 255),
    "eht_mlo": Load(3, 5 / 255),
}


@pytest.mark.parametrize("family", NAMES)
def test_link(family: str) -> None:
    assert link.parse(text(family, "link")) == LINKS[family]


@pytest.mark.parametrize("family", NAMES)
def test_station(family: str) -> None:
    assert station.parse(text(family, "station"), LINKS[family].peer) == STATIONS.get(family, Station())


@pytest.mark.parametrize("family", NAMES)
def test_survey(family: str) -> None:
    assert survey.parse(text(family, "survey"), LINKS[family].frequency_mhz) == SURVEYS.get(family, Survey())


@pytest.mark.parametrize("family", NAMES)
def test_channel(family: str) -> None:
    frequency = LINKS[family].frequency_mhz
    channel = channels.parse_info(text(family, "info"), frequency)
    found = (channel, channels.number(frequency), channels.band(frequency))
    assert found == CHANNELS.get(family, (Channel(), None, None))


@pytest.mark.parametrize("family", NAMES)
def test_load_that_the_access_point_announces(family: str) -> None:
    bssid = LINKS[family].bssid
    found = scan.of(text(family, "scan"), bssid) if bssid else None
    assert (found.load if found else Load()) == LOADS.get(family, Load())
    assert found is None or (found.associated and found.bssid == bssid)
    assert found == next((bss for bss in scan.parse(text(family, "scan")) if bss.bssid == bssid), None)


SPANS: dict[str, list[list[tuple[float, float]]]] = {
    "hwsim": [[(2427, 2447)], [(2452, 2472)]],
    "iwlwifi": [[(5170, 5250)], [(5170, 5250)], [(5210, 5250)], [(5250, 5330)]],
    "ath9k": [[(2427, 2467)], [(2402, 2422)], [(2432, 2472)], [(2427, 2447)], [(2447, 2467)]],
    "mt76": [[(5170, 5330)], [(5250, 5330)], [(5735, 5815), (5170, 5250)]],
    "eht_mlo": [[(6105, 6425)], [(5170, 5250)], [(6165, 6185)], [(6425, 6505)], [(5170, 5210)]],
}


@pytest.mark.parametrize("family", SPANS)
def test_what_networks_take_of_the_band(family: str) -> None:
    assert [list(bss.spans) for bss in scan.parse(text(family, "scan"))] == SPANS[family]


def test_scan_of_a_recorded_radio() -> None:
    first, second = scan.parse(text("hwsim", "scan"))
    assert (first.bssid, first.associated, first.frequency_mhz, first.rssi_dbm, first.seen_ms) == (
        "02:00:00:00:00:00", True, 2437, -30.0, 8,
    )  # fmt: skip
    assert (second.bssid, second.associated, second.seen_ms) == ("02:00:00:00:02:00", False, 7076)


@pytest.mark.parametrize(
    ("family", "row"),
    [
        ("hwsim", None),
        ("brcmfmac", Wireless(-66.0, None)),
        ("wext", Wireless(-58.0, -97.0)),
        ("unassociated", None),
        ("empty", None),
    ],
)
def test_wireless(family: str, row: Wireless | None) -> None:
    assert wireless.parse(text(family, "wireless"), "wlan0") == row


def test_wireless_of_another_interface() -> None:
    assert wireless.parse(text("hwsim", "wireless"), "wlan1") == Wireless(-30.0, None)
    assert wireless.parse(text("wext", "wireless"), "eth1") == Wireless(), "a scale of its own, and nothing about noise"
    assert wireless.parse(text("wext", "wireless"), "face") is None


@pytest.mark.parametrize(
    ("printed", "rate"),
    [
        ("1.0 MBit/s", Rate(1.0)),
        ("54.0 MBit/s", Rate(54.0)),
        ("6.5 MBit/s MCS 0", Rate(6.5, 0, 1)),
        ("450.0 MBit/s MCS 23 40MHz short GI", Rate(450.0, 23, 3)),
        ("6.0 MBit/s MCS 32 40MHz", Rate(6.0, 32, None)),
        ("1733.3 MBit/s VHT-MCS 9 160MHz short GI VHT-NSS 2", Rate(1733.3, 9, 2)),
        ("866.7 MBit/s VHT-MCS 9 80P80MHz VHT-NSS 1", Rate(866.7, 9, 1)),
        ("143.4 MBit/s HE-MCS 11 HE-NSS 1 HE-GI 0 HE-DCM 0", Rate(143.4, 11, 1)),
        ("(unknown) MCS 3", Rate(None, 3, 1)),
        ("(unknown)", Rate()),
        ("0.0 MBit/s", Rate()),
        ("130.0 MBit", Rate()),
        ("failed to parse nested rate attributes!", Rate()),
        (None, Rate()),
    ],
)
def test_rate(printed: str | None, rate: Rate) -> None:
    assert parse(printed) == rate


@pytest.mark.parametrize(
    ("frequency", "number", "band"),
    [
        (2412, 1, "2.4"),
        (2472, 13, "2.4"),
        (2484, 14, "2.4"),
        (5180, 36, "5"),
        (5885, 177, "5"),
        (5935, 2, "6"),
        (5955, 1, "6"),
        (7115, 233, "6"),
        (2414, None, "2.4"),
        (4940, None, None),
        (60480, None, None),
        (None, None, None),
    ],
)
def test_channel_of_a_frequency(frequency: int | None, number: int | None, band: str | None) -> None:
    assert (channels.number(frequency), channels.band(frequency)) == (number, band)


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("venue", "venue"),
        (r"\xe5\x9b\xbe\xe4\xb9\xa6\xe9\xa6\x86", "图书馆"),
        (r"\xcd\xbc\xca\xe9\xb9\xdd", "图书馆"),
        (r"\xff\xff\x01", "ffff01"),
        (r"a\x5cb", r"a\b"),
        (r"\x20two words\x20", " two words "),
        (r"a\x0a\x1b[31mb", "a  [31mb"),
        (r"quote \" and \\ as wpa_supplicant writes them", 'quote " and \\ as wpa_supplicant writes them'),
        (r"\x00\x00\x00", None),
        ("", None),
        ("\udc80", "?"),
    ],
)
def test_network_names(printed: str, name: str | None) -> None:
    assert names.ssid(printed) == name


def test_a_neighbour_s_phone_is_not_our_access_point() -> None:
    phone = text("ath9k", "station").replace(AP, "00:00:5e:00:53:77").replace("-54 [-58, -57]", "-20")
    both = phone + text("ath9k", "station")
    assert station.parse(both, AP) == STATIONS["ath9k"]
    assert station.parse(phone, AP) == Station()
    assert station.parse(both, None) == Station()


def test_a_width_on_a_channel_that_we_left_is_unknown() -> None:
    assert channels.parse_info(text("ath9k", "info"), 5180) == Channel()


@pytest.mark.parametrize("unknown", ["-256", "0", "9999", "127", "-128"])
def test_levels_that_mean_unknown(unknown: str) -> None:
    noise = text("ath9k", "survey").replace("-94 dBm", f"{unknown} dBm")
    assert survey.parse(noise, 2437).noise_dbm is None
    signal = text("brcmfmac", "station").replace("-66 dBm", f"{unknown} dBm")
    assert station.parse(signal, AP).rssi_dbm is None
    row = text("wext", "wireless").replace("-97.", unknown)
    assert wireless.parse(row, "wlan0") == Wireless(-58.0, None)


def test_signal_with_and_without_chains() -> None:
    plain = text("ath9k", "station").replace("-54 [-58, -57]", "-54")
    assert station.parse(plain, AP) == station.parse(text("ath9k", "station"), AP)


def test_frequency_with_and_without_fraction() -> None:
    old = text("iwlwifi", "link")
    assert link.parse(old.replace("freq: 5180", "freq: 5180.0")) == link.parse(old)
