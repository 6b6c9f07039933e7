"""Story of a fleet: releases, a rollback, memory cards, a key rotation, a stolen key, a broken release, an expiry."""

import datetime
import http.server
import json
import random
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from simulation.fleet_device import CHANNEL, Device
from simulation.ledger import Ledger
from simulation.tiny_release import write_release
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.https import SCHEMA
from transferlite.trust.keys import LocalKey, create_key

FIRST, WITHDRAWN, LAST, BROKEN = "release-1", "release-2", "release-3", "release-4"
_CUT_SHARE = 0.25
"""Share of updates that a power cut may end."""
_LAST_OPERATION = 90
"""A power cut comes at one of this many first file operations; an update has 40 to 100."""


@dataclass(frozen=True)
class Event:
    """What one device did in one step, and why: the line that it printed, or the power cut."""

    step: str
    device: int
    source: str
    reason: str
    served_before: str | None
    serves: str | None


class FleetStory:
    """A fleet and its owner; :meth:`run` tells the story, ``ledger`` and ``events`` say what happened."""

    def __init__(self, folder: Path, devices: int, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self.events: list[Event] = []
        self.failures: list[str] = []
        self.returns: list[str] = []
        self.cuts = 0
        self.old, self.new = self._create_key("old"), self._create_key("new")
        self.store = FolderStore(folder / "registry")
        self.owner = Registry(self.store, None, self.old)
        self.devices = [self._add_device(number) for number in range(devices)]

    def run(self) -> None:
        """Run every step in order."""
        self._install_first_release()
        online = self._sample(self.devices, 0.7)
        self._release_second(online)
        cards = self._copy_withdrawn_release()
        informed = self._roll_back(online)
        self._insert_cards("card while some are offline", cards, informed)
        self._poll("everybody polls", self.devices, self.store.uri)
        self._poll("everybody polls", [device for device in self.devices if device.serves != FIRST], self.store.uri, 0)
        self._check_all_serve("everybody polls", FIRST)
        self._insert_cards("card again", cards, self.devices)
        self._rotate_key()
        self._use_stolen_key()
        self._release_broken()
        self._let_pointer_expire()
        self._check_totals()

    # -- steps -------------------------------------------------------------------------------------------------------

    def _install_first_release(self) -> None:
        self._publish(FIRST, 1)
        self._poll("first install", self.devices, self.store.uri)
        self._poll("first install", [device for device in self.devices if device.serves is None], self.store.uri, 0)
        self._check_all_serve("first install", FIRST)

    def _release_second(self, online: Sequence[Device]) -> None:
        self._publish(WITHDRAWN, 2)
        self._poll("second release", online, self.store.uri)
        self._poll("second release", [device for device in online if device.serves != WITHDRAWN], self.store.uri, 0)
        self._check_serve("second release, online", online, WITHDRAWN)

    def _copy_withdrawn_release(self) -> list[str]:
        """Copy the second release: a folder filled by ``models pull``, a single bundle, and a registry for a share."""
        pulled = Device(-1, self.folder / "card" / "device", self._key_file("card", [self.old]))
        pulled.folder.parent.mkdir()
        pulled.poll(self.store.uri)
        shutil.copytree(self.store.root, self.folder / "shared")
        return [str(pulled.folder), str(pulled.folder / WITHDRAWN), "share"]

    def _roll_back(self, online: Sequence[Device]) -> list[Device]:
        self.owner.rollback(CHANNEL)
        offline = [device for device in self.devices if device not in online]
        informed = [*self._sample(online, 0.6), *self._sample(offline, 0.5)]
        self._poll("rollback", informed, self.store.uri, 0)
        self._check_serve("rollback, devices that polled", informed, FIRST)
        return informed

    def _insert_cards(self, step: str, cards: Sequence[str], informed: Sequence[Device]) -> None:
        """Offer the withdrawn release to every device, from a card or the old share."""
        with _served(self.folder / "shared") as share:
            for place in cards:
                group = [device for device in self.devices if cards[device.number % len(cards)] == place]
                self._poll(step, group, share if place == "share" else place)
        self._check_serve(f"{step}, devices that received the withdrawal", informed, FIRST)
        took = [event for event in self.events if event.step == step and event.serves != event.served_before]
        self.ledger.note(f"{step}, devices without it: took it", len(took))

    def _rotate_key(self) -> None:
        """Sign with a new key; a fifth of the devices is offline until after the release, and has the old key alone."""
        offline = self._sample(self.devices, 0.2)
        online = [device for device in self.devices if device not in offline]
        self._set_keys(online, self.old, self.new)
        self.owner = Registry(self.store, self.old.public_keys, self.new)
        self.owner.sign(FIRST)
        self._publish(LAST, 3)
        self._poll("new key", online, self.store.uri)
        self._poll("new key", online, self.store.uri, 0)
        self._check_serve("new key, devices with both keys", online, LAST)
        self._poll("new key", offline, self.store.uri)
        self._check_serve("new key, devices with the old key", offline, FIRST)
        self._set_keys(offline, self.old, self.new)
        self._poll("both keys arrive late", offline, self.store.uri, 0)
        self._set_keys(self.devices, self.new)
        self._poll("old key withdrawn", self.devices, self.store.uri)
        self._check_all_serve("old key withdrawn", LAST)

    def _use_stolen_key(self) -> None:
        """Somebody signs the withdrawn release and a newer pointer to it with the old key."""
        shutil.copytree(self.store.root, self.folder / "forged")
        thief = Registry(FolderStore(self.folder / "forged"), None, self.old)
        thief.sign(WITHDRAWN)
        thief.promote(WITHDRAWN, CHANNEL)
        self._poll("stolen old key", self.devices, thief.store.uri)
        self._check_all_serve("stolen old key", LAST)

    def _release_broken(self) -> None:
        self._publish(BROKEN, 4, is_wrong=True)
        for _ in range(2):
            self._poll("release whose self-test fails", self.devices, self.store.uri)
        self._check_all_serve("release whose self-test fails", LAST)
        self.owner.rollback(CHANNEL)
        self._poll("release whose self-test fails", self.devices, self.store.uri)

    def _let_pointer_expire(self) -> None:
        valid_for = datetime.timedelta(seconds=2)
        self.owner.promote(LAST, CHANNEL, valid_for)
        self._poll("pointer of 2 seconds", self.devices, self.store.uri, 0)
        time.sleep(valid_for.total_seconds() + 1)
        for step, expected in (("expired pointer", len(self.devices)), ("renewed pointer", 0)):
            self._poll(step, self.devices, self.store.uri, 0)
            warned = sum("expired" in event.reason for event in self.events if event.step == step)
            self.ledger.check(f"{step}: devices that warn", expected, warned)
            self.owner.promote(LAST, CHANNEL, datetime.timedelta(days=30))
        self._check_all_serve("renewed pointer", LAST)

    # -- the fleet ---------------------------------------------------------------------------------------------------

    def _poll(self, step: str, devices: Iterable[Device], location: str, cut_share: float = _CUT_SHARE) -> None:
        """Have each device poll; record what it did, and check what it serves afterwards."""
        source = location.removeprefix(f"{self.folder}/").partition("?")[0]
        withdrawn = set(Registry(self.store).channel(CHANNEL).withdrawn) if location == self.store.uri else set[str]()
        for device in devices:
            cut_at = self.rng.randint(1, _LAST_OPERATION) if self.rng.random() < cut_share else None
            lines = device.poll(location, cut_at)
            reason = "; ".join(lines).replace(f"{self.folder}/", "")
            is_cut = reason.startswith("power cut")
            self.cuts += is_cut
            before, (device.serves, problem) = device.serves, device.load()
            event = Event(step, device.number, source, reason, before, device.serves)
            self.events.append(event)
            if device.serves is None and not (before is None and is_cut):
                self.failures.append(f"{event}: {problem}")
            if device.serves in device.left and device.serves != before:
                self.returns.append(str(event))
            if not is_cut and "is signed with another key" not in reason:
                device.left = device.left | withdrawn

    def _check_all_serve(self, step: str, model_id: str) -> None:
        self._check_serve(step, self.devices, model_id)

    def _check_serve(self, step: str, devices: Sequence[Device], model_id: str) -> None:
        serving = sum(device.serves == model_id for device in devices)
        self.ledger.check(f"{step}: devices that serve {model_id}", len(devices), serving)

    def _check_totals(self) -> None:
        self.ledger.note("polls", len(self.events))
        self.ledger.note("power cuts", self.cuts)
        self.ledger.check("steps after which a device served no whole trusted model", [], self.failures)
        self.ledger.check("devices that went back to a version withdrawn from them", [], self.returns)
        self.ledger.check("polls without a reason in the ledger", 0, sum(not event.reason for event in self.events))

    def reasons(self) -> Iterator[str]:
        """Yield each step's reasons with the number of devices, without details that differ from device to device."""
        counts = Counter((event.step, _short(event.reason)) for event in self.events)
        for (step, reason), count in counts.items():
            yield f"    {step:<30} {count:>4}  {reason}"

    def to_json_lines(self) -> str:
        """Return every event as a line of JSON."""
        return "".join(json.dumps(asdict(event)) + "\n" for event in self.events)

    # -- owner and keys ----------------------------------------------------------------------------------------------

    def _publish(self, model_id: str, number: int, is_wrong: bool = False) -> None:
        created_at = f"2026-01-{number:02}T00:00:00+00:00"
        bundle = self.folder / "made" / model_id
        self.owner.publish(bundle, write_release(bundle, model_id, created_at, 2.0 + number, is_wrong=is_wrong))
        self.owner.promote(model_id, CHANNEL)

    def _sample(self, devices: Sequence[Device], share: float) -> list[Device]:
        return self.rng.sample(devices, max(1, round(share * len(devices))))

    def _create_key(self, name: str) -> LocalKey:
        private = self.folder / f"{name}.pem"
        create_key(private, self.folder / f"{name}.pub.pem")
        return LocalKey.read(private)

    def _key_file(self, name: str, keys: Iterable[LocalKey]) -> Path:
        path = self.folder / f"{name}.keys.pem"
        path.write_text("".join(key.public_keys.to_pem() for key in keys))
        return path

    def _add_device(self, number: int) -> Device:
        folder = self.folder / f"device-{number:03}"
        folder.mkdir()
        return Device(number, folder / "model", self._key_file(folder.name, [self.old]))

    def _set_keys(self, devices: Iterable[Device], *keys: LocalKey) -> None:
        for device in devices:
            self._key_file(device.folder.parent.name, keys)


def _short(reason: str) -> str:
    """Shorten a reason to its first sentence, without the numbers that differ between devices."""
    first = "power cut" if reason.startswith("power cut") else reason.partition("; ")[0]
    return re.sub(r" \(sequence .*?\)|:\d{4,5}(?=/)| \([0-9a-f]{16}.*| by 0\.\d+ \(limit.*?\)", "", first)


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Do not log requests."""


@contextmanager
def _served(registry: Path) -> Iterator[str]:
    """Serve a registry's folder as a share on loopback; yield the share's address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=registry))
    root = f"http://127.0.0.1:{server.server_address[1]}"
    keys = [path.relative_to(registry).as_posix() for path in registry.rglob("*.*") if path.is_file()]
    share = {"schema": SCHEMA, "objects": {key: f"{root}/{key}" for key in keys}}
    (registry / "share.json").write_text(json.dumps(share))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{root}/share.json"
    finally:
        server.shutdown()
        server.server_close()
