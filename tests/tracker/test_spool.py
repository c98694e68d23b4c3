from __future__ import annotations

import json

from dit_exp.tracker.spool import Spool


def metrics(step, count=1):
    return {"kind": "metrics", "step": step, "time": step, "values": {f"m{i}": 0.0 for i in range(count)}}


def kinds(spool):
    """What each request would send, in order."""
    sent = []
    while True:
        events, end = spool.following()
        if not events:
            return sent
        sent.append((events[0]["kind"], [event.get("step") for event in events]))
        spool.mark("id", end, events)


def test_events_come_back_in_order_and_metrics_in_groups_of_a_thousand_values(tmp_path):
    spool = Spool(tmp_path)
    for event in [{"kind": "start"}, metrics(1), metrics(2, 999), metrics(3), {"kind": "finish"}, metrics(4)]:
        spool.append(event)
    assert spool.unsent() == 6
    assert kinds(spool) == [
        ("start", [None]),
        ("metrics", [1, 2]),
        ("metrics", [3]),
        ("finish", [None]),
        ("metrics", [4]),
    ]
    assert spool.unsent() == 0


def test_an_event_of_more_than_a_thousand_values_comes_alone(tmp_path):
    spool = Spool(tmp_path)
    for step, count in enumerate((1, 2500, 1)):
        spool.append(metrics(step, count))
    assert kinds(spool) == [("metrics", [0]), ("metrics", [1]), ("metrics", [2])]


def test_another_process_goes_on_where_the_first_one_was_killed(tmp_path):
    spool = Spool(tmp_path)
    for step in range(3):
        spool.append(metrics(step))
    spool.mark("id", spool.path.read_bytes().index(b"\n") + 1, [])
    with spool.path.open("ab") as file:
        file.write(b'{"kind": "metrics", "step": 3, "val')
    again = Spool(tmp_path)
    again.append(metrics(4))
    assert again.run_id == "id"
    assert [event["step"] for event in again.history()] == [0, 1, 2, 4]
    assert kinds(again) == [("metrics", [1, 2, 4])]


def test_a_broken_line_in_the_middle_is_passed_over(tmp_path):
    spool = Spool(tmp_path)
    spool.append(metrics(0))
    with spool.path.open("ab") as file:
        file.write(b'\0\0\0{"kind": "met\n')
    spool.append(metrics(1))
    assert kinds(spool) == [("metrics", [0, 1])]


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    spool = Spool(tmp_path)
    line = json.dumps(metrics(0)).encode()
    with spool.path.open("ab", buffering=0) as file:
        file.write(line)
        assert spool.following() == ([], 0)
        file.write(b"\n")
    assert spool.following() == ([metrics(0)], len(line) + 1)


def test_a_kept_file_stays_as_it_was_until_it_is_sent(tmp_path):
    spool = Spool(tmp_path / "tracker")
    source = tmp_path / "samples.png"
    for text in ("first", "second"):
        source.write_text(text)
        spool.append({"kind": "artifact", "file": spool.keep(source)})
    first, second = (spool.kept(event["file"]) for event in spool.history())
    assert (first.read_text(), second.read_text(), first.name) == ("first", "second", "samples.png")
    events, end = spool.following()
    spool.mark("id", end, events)
    assert (first.exists(), second.exists()) == (False, True)
