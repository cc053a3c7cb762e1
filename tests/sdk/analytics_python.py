"""The same with segment-analytics-python, gzip on."""

import datetime
import os
import sys

import segment.analytics as analytics

failures = []
analytics.write_key = os.environ["WEIR_WRITE_KEY"]
analytics.host = os.environ["WEIR_HOST"]
analytics.gzip = True
analytics.on_error = lambda error, items: failures.append(error)

at = datetime.datetime(2025, 5, 4, 12, tzinfo=datetime.timezone.utc)
context = {"app": {"version": "1.2.3"}, "os": {"name": "iOS"}, "campaign": {"source": "news"}, "locale": "de-DE"}


def say(number):
    return {"message_id": f"python-{number}", "timestamp": at}


analytics.identify("python-u", {"plan": "pro", "logins": 5}, anonymous_id="python-a", **say(1))
analytics.track("python-u", "Order Placed", {"total": 1999, "cart": {"size": 2}}, context, **say(2))
analytics.page(None, "Docs", "Home", {"path": "/"}, anonymous_id="python-a", **say(3))
analytics.screen("python-u", None, "Cart", **say(4))
analytics.group("python-u", "acme", {"seats": 7}, **say(5))
analytics.alias("python-old", "python-u", **say(6))
analytics.shutdown()
for failure in failures:
    print("the SDK gave up:", failure, file=sys.stderr)
sys.exit(1 if failures else 0)
