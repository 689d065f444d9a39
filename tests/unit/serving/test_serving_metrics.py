from prometheus_client.parser import text_string_to_metric_families

from vla_kit.serving.metrics import ServingMetrics


def samples(metrics):
    families = text_string_to_metric_families(metrics.text())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_prometheus_own_parser_reads_what_was_observed():
    metrics = ServingMetrics()
    for seconds in (0.002, 0.02, 0.02, 3.0):
        metrics.request_seconds.observe(seconds)
        metrics.count("answered")
    metrics.count("refused")
    read = samples(metrics)
    assert read["vla_kit_requests_total", (("outcome", "answered"),)] == 4
    assert read["vla_kit_requests_total", (("outcome", "refused"),)] == 1
    assert read["vla_kit_requests_total", (("outcome", "failed"),)] == 0
    below = {le: read["vla_kit_request_seconds_bucket", (("le", le),)] for le in ("0.001", "0.025", "5.0", "+Inf")}
    assert below == {"0.001": 0, "0.025": 3, "5.0": 4, "+Inf": 4}
    assert read["vla_kit_request_seconds_sum", ()] == 3.042


def test_the_log_gives_the_bounds_of_the_median_and_the_slow_ones():
    metrics = ServingMetrics()
    assert metrics.summary() == "0 answered, 0 invalid, 0 refused, 0 failed; 50 % within no time, 95 % within no time"
    for seconds in [0.004] * 18 + [0.3] * 2:
        metrics.request_seconds.observe(seconds)
        metrics.count("answered")
    assert metrics.summary().endswith("50 % within 5 ms, 95 % within 500 ms")
    for _ in range(100):
        metrics.request_seconds.observe(60)
    assert metrics.summary().endswith("50 % within inf ms, 95 % within inf ms")


def test_two_servers_do_not_share_numbers():
    first, second = ServingMetrics(), ServingMetrics()
    first.count("failed")
    assert samples(second)["vla_kit_requests_total", (("outcome", "failed"),)] == 0
