"""Memory and file handles of the replicas, and whether they live."""

import collections
import pathlib
import statistics
import threading
import time

SAMPLE_SECS = 10

Sample = collections.namedtuple("Sample", "at replica pid age resident_mib handles")


class Watch(threading.Thread):
    def __init__(self, replicas, stop):
        super().__init__(daemon=True)
        self.replicas, self.stop = replicas, stop
        self.samples = []
        self.deaths = []

    def run(self):
        next_sample = time.monotonic()
        while not self.stop.wait(1):
            for replica in self.replicas:
                if replica.was_ready and replica.is_wanted and not replica.is_running():
                    self.deaths.append(f"{replica.name} ended with {replica.child.returncode}:\n{replica.tail()}")
                    replica.start()
            if time.monotonic() >= next_sample:
                next_sample += SAMPLE_SECS
                self.samples += filter(None, map(self.sample, range(len(self.replicas))))

    def sample(self, number):
        replica = self.replicas[number]
        pid, now = replica.child.pid, time.monotonic()
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            handles = sum(1 for _ in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        except (OSError, StopIteration):
            # Killed a moment ago.
            return None
        return Sample(now, number, pid, now - replica.started_at, int(resident.split()[1]) / 1024, handles)

    def panics(self):
        return sum(replica.said("panicked at") for replica in self.replicas)


def growth(samples, of):
    """By how much the straight line through the samples rises from the first to the last of them."""
    times = [sample.at for sample in samples]
    if len(times) < 3:
        return None
    slope, _ = statistics.linear_regression(times, [of(sample) for sample in samples])
    return slope * (times[-1] - times[0])
