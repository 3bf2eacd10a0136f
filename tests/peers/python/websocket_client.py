"""`websocket-client`: `run_forever` with ping interval, ping timeout and reconnect."""

import threading
import time

import websocket

from driver import Course

course = Course()
websocket.setdefaulttimeout(course.connect)
started = False


def on_open(app):
    global started
    course.connected()
    if not started:
        started = True
        threading.Thread(target=send_all, args=(app,), daemon=True).start()


def send_all(app):
    for pause, text in course.sends():
        time.sleep(pause)
        try:
            app.send(text)
            course.sent(True)
        except Exception:
            course.sent(False)


def on_message(app, message):
    course.message(message)
    time.sleep(course.hold())


app = websocket.WebSocketApp(
    course.url,
    on_open=on_open,
    on_reconnect=on_open,
    on_message=on_message,
    on_error=lambda app, error: course.say("error", repr(error)),
    on_close=lambda app, code, reason: course.say("disconnected", code),
)
# The library checks for the pong once in each ping timeout, and requires the timeout to be shorter than the
# interval. So the timeout is half of what `death` leaves, and the verdict is due by then.
app.run_forever(
    ping_interval=course.ping,
    ping_timeout=min((course.death - course.ping) / 2, course.ping * 0.9),
    reconnect=course.backoff,
    sslopt={"cert_reqs": 0},
)
course.say("gave_up")
threading.Event().wait()
