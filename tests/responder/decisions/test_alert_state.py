"""The live alert state from Alertmanager and Prometheus, and `unknown` if they do not answer."""

from __future__ import annotations

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.backends.connections import Connections
from responder.decisions.alert_state import query_alerts
from tests.responder.examples import LABELS, alert, incident, policy, policy_set, service
from tests.responder.outside import FakeAlertmanager, FakePrometheus

FINGERPRINT = fingerprint(LABELS)
OF = '{alertname="BackendDown",service="backend",environment="production"}'
ALERTS = f'ALERTS{OF[:-1]},alertstate="firing"}} or service_environment:trouble{OF}'


async def test_it_fires(connections: Connections, alertmanager: FakeAlertmanager) -> None:
    alertmanager.fires(LABELS, FINGERPRINT)
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, live.reason) == ("firing", "firing in Alertmanager")


async def test_one_firing_alert_is_enough(connections: Connections, alertmanager: FakeAlertmanager) -> None:
    pod = {**LABELS, "pod": "p"}
    alertmanager.fires(LABELS, FINGERPRINT, state="suppressed", silenced_by=("s1",))
    alertmanager.fires(pod, fingerprint(pod))
    assert (await query_alerts(incident(alerts=(alert(), alert(pod))), policy_set(), connections)).state == "firing"


async def test_another_alert_with_the_same_name_does_not_count(
    connections: Connections, alertmanager: FakeAlertmanager
) -> None:
    alertmanager.fires(LABELS, "0" * 16)
    assert (await query_alerts(incident(), policy_set(), connections)).state == "gone"


@pytest.mark.parametrize(
    ("silenced_by", "inhibited_by", "reason"),
    [
        (("s1",), (), "silence s1 of bob: deploying"),
        ((), ("abababababababab",), "inhibited by DatabaseDown of db in production"),
        ((), ("cdcdcdcdcdcdcdcd",), "inhibited by SiteDown"),
        ((), ("gone",), "inhibited by an alert that no longer exists (gone)"),
        (("s1",), ("abababababababab",), "silence s1 of bob: deploying; inhibited by DatabaseDown of db in production"),
        (("gone",), (), "silence gone of an unknown author"),
        ((), (), "Alertmanager does not name the silence"),
    ],
)
async def test_a_suppressed_alert_names_who_silenced_it(
    silenced_by: tuple[str, ...],
    inhibited_by: tuple[str, ...],
    reason: str,
    connections: Connections,
    alertmanager: FakeAlertmanager,
) -> None:
    alertmanager.fires(LABELS, FINGERPRINT, state="suppressed", silenced_by=silenced_by, inhibited_by=inhibited_by)
    alertmanager.fires({"alertname": "DatabaseDown", "service": "db", "environment": "production"}, "abababababababab")
    alertmanager.fires({"alertname": "SiteDown"}, "cdcdcdcdcdcdcdcd")
    alertmanager.silences["s1"] = {"id": "s1", "createdBy": "bob", "comment": "deploying"}
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, live.reason) == ("suppressed", reason)


async def test_alerts_that_bypass_alertmanager_are_looked_up_in_prometheus(
    connections: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.vectors[ALERTS] = [({**LABELS, "alertstate": "firing"}, "1")]
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, live.reason) == ("firing", "firing in Prometheus, unknown to Alertmanager")


async def test_too_many_results_are_unknown(connections: Connections, prometheus: FakePrometheus) -> None:
    prometheus.raw = b" " * (5 << 20)
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, "exceeds 4.2 MB" in live.reason) == ("unknown", True)


async def test_a_silence_outweighs_prometheus(
    connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    alertmanager.fires(LABELS, FINGERPRINT, state="suppressed")
    prometheus.vectors[ALERTS] = [({**LABELS, "alertstate": "firing"}, "1")]
    assert (await query_alerts(incident(), policy_set(), connections)).state == "suppressed"


async def test_firing_in_neither(connections: Connections) -> None:
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, live.reason) == ("gone", "firing in neither Alertmanager nor Prometheus")


async def test_no_answer_is_unknown(
    connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    prometheus.status = 500
    assert (await query_alerts(incident(), policy_set(), connections)).state == "unknown", (
        "Prometheus could have had it"
    )
    alertmanager.status = 503
    live = await query_alerts(incident(), policy_set(), connections)
    assert (live.state, "no Alertmanager answered" in live.reason) == ("unknown", True)


async def test_all_alerts_of_the_environment_are_queried(
    connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    other = {**LABELS, "alertname": "Other"}
    await query_alerts(incident(alerts=(alert(), alert(other))), policy_set(), connections)
    assert alertmanager.requests[0].query.getall("filter") == ['environment="production"']
    assert prometheus.requests[0].query["query"] == (
        'ALERTS{service="backend",environment="production",alertstate="firing"}'
        ' or service_environment:trouble{service="backend",environment="production"}'
    ), "only labels that all alerts share"


async def test_a_label_cannot_break_out_of_the_query(connections: Connections, prometheus: FakePrometheus) -> None:
    evil = {"alertname": 'x"} or vector(1) #\n\\'}
    assert (await query_alerts(incident(alerts=(alert(evil),)), policy_set(), connections)).state == "gone"
    query = prometheus.requests[0].query["query"]
    assert query == (
        r'ALERTS{alertname="x\"} or vector(1) #\n\\",alertstate="firing"}'
        r' or service_environment:trouble{alertname="x\"} or vector(1) #\n\\"}'
    )


async def test_other_services_are_in_trouble_whatever_their_checks_report(
    connections: Connections, alertmanager: FakeAlertmanager
) -> None:
    health = ({"http": "http://cart/health", "fields": {"status": "up"}, "headers": {"Accept": "*/*"}},)
    services = (service(), service("cart", health_checks=health), service("search", health_checks=health))
    by = policy_set(policy(roll_back={"label": "service"}), services=services)
    for name in ("backend", "cart", "search"):
        labels = {**LABELS, "service": name}
        alertmanager.fires(labels, fingerprint(labels))
    live = await query_alerts(incident(policy=by.policies[0]), by, connections)
    assert live.also_in_trouble == ("cart", "search")


async def test_in_a_storm_only_as_many_others_are_counted_as_decide(
    connections: Connections, alertmanager: FakeAlertmanager
) -> None:
    names = [f"s{n:03d}" for n in range(200)]
    by = policy_set(policy(roll_back={"label": "service"}), services=tuple(service(n) for n in ("backend", *names)))
    for name in ("backend", *names, *names):
        labels = {**LABELS, "service": name}
        alertmanager.fires(labels, fingerprint(labels))
    live = await query_alerts(incident(policy=by.policies[0]), by, connections)
    assert len(live.also_in_trouble) == by.limits.circuit_breaker.counted
    assert set(live.also_in_trouble) <= set(names)
