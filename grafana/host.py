"""The dashboard *Exporters and host*: whether the checks run, and the free resources of the hosts."""

from __future__ import annotations

from grafana.counted import quantile
from grafana.dashboard import Line, Row, dashboard, marks, of_label
from grafana.panels import PROBE_JOB, RUNBOOK, Json, column, gauges, labels, link, promql, stat, timeline, timeseries

HOST = 'instance=~"$instance"'
FULL = ((None, "green"), (0.8, "yellow"), (0.95, "red"))


def rate(series: str, labels: str = "", by: str = "instance") -> str:
    return f"sum by ({by}) (rate({series}{{{HOST}{labels}}}[$__rate_interval]))"


# --- the exporters ---------------------------------------------------------------------------------------------------
UP = timeline(
    "Exporters",
    "Whether Prometheus can scrape them. While one is down, its checks have no samples, which is no failure.",
    promql(f'up{{job="exporters",{HOST}}}', "{{instance}}"),
    texts={"1": ("up", "green"), "0": ("down", "red")},
)
CHECKS = stat(
    "Checks",
    "Number of configured checks.",
    promql(f"sum(exporter_checks{{{HOST}}})", now=True),
    steps=((None, "blue"),),
)
UNANSWERED = stat(
    "Checks without a sample",
    "Checks whose scrape returned no sample: a fault of the exporter, never of the service.",
    promql('count(up{job="probes"} == 0) or vector(0)', now=True),
    steps=((None, "green"), (1, "red")),
)
RELOADED = stat(
    "Configuration",
    "Whether the last load of the configuration succeeded.",
    promql(f"min(exporter_config_last_reload_successful{{{HOST}}})", now=True),
    texts={"1": ("newest", "green"), "0": ("refused", "red")},
)
PROBES = timeseries(
    "Probes",
    "Probes by type and outcome; `unable` and `bug` are faults of the exporter.",
    promql(rate("exporter_probes_total", by="type, outcome"), "{{type}} {{outcome}}"),
    unit="reqps",
)
LAG = timeseries(
    "Doubt",
    "99th percentile of the exporter's overhead per probe and of its event loop lag: when they grow, its "
    "results are unreliable.",
    promql(quantile(0.99, "exporter_overhead_seconds"), "overhead"),
    promql(quantile(0.99, "exporter_event_loop_lag_seconds"), "event loop"),
    unit="s",
)
CERTIFICATES = labels(
    "Certificates",
    "Time until the certificates of the checked services expire.",
    promql(
        f"min by (service, environment, check_id) (probe_ssl_earliest_cert_expiry{{{PROBE_JOB}}}) - time()", table=True
    ),
    value="left",
    noValue="none",
    columns=(column("left", unit="s"),),
)
ALERTS = labels(
    "Alerts",
    "Alerts of exporters and hosts that are pending or firing now.",
    promql(
        "max by (alertname, alertstate, instance, environment) "
        '(ALERTS{alertname=~"Exporter.+|Prob.+|Resource.+|System.+|Disk.+|ScrapeTargetDown|Certificate.+"})',
        table=True,
    ),
    noValue="none",
    columns=(column("alertname", links=link("Runbook", RUNBOOK)),),
)

# --- the host --------------------------------------------------------------------------------------------------------
USED = gauges(
    "Used",
    "Share in use of each resource. The rules warn above 80 % of CPU and memory and page above 95 %.",
    promql(f"instance:resource_utilization:ratio{{{HOST}}} >= 0", "{{instance}} {{resource}} {{mountpoint}}", now=True),
    unit="percentunit",
    max=1,
    steps=FULL,
)
CPU = timeseries(
    "CPU",
    "CPU time by mode, as a share of all CPUs.",
    promql(
        f"sum by (mode) (rate(resource_cpu_seconds_total{{{HOST}}}[$__rate_interval]))"
        f" / scalar(sum(resource_cpus{{{HOST}}}))",
        "{{mode}}",
    ),
    unit="percentunit",
    stacking="normal",
)
MEMORY = timeseries(
    "Memory",
    "Memory available without swapping, and total memory.",
    promql(f"resource_memory_available_bytes{{{HOST}}}", "{{instance}} available"),
    promql(f"resource_memory_size_bytes{{{HOST}}}", "{{instance}} there"),
    unit="bytes",
)
SWAP = timeseries(
    "Swapping",
    "Bytes to and from swap: sustained traffic means that memory is short.",
    promql(rate("resource_swap_in_bytes_total"), "{{instance}} in"),
    promql(rate("resource_swap_out_bytes_total"), "{{instance}} out"),
    unit="Bps",
)
LOAD = timeseries(
    "Load",
    "Load average per CPU: above 1, processes wait.",
    *(
        promql(
            f"max by (instance) (resource_load{minutes}{{{HOST}}}) / max by (instance) (resource_cpus{{{HOST}}})",
            f"{{{{instance}}}} {minutes} min",
        )
        for minutes in (1, 15)
    ),
    unit="short",
)
PRESSURE = timeseries(
    "Pressure",
    "Share of time in which a task waited for the resource. Absent if the kernel lacks PSI.",
    promql(rate("resource_pressure_waiting_seconds_total", by="instance, resource"), "{{instance}} {{resource}}"),
    unit="percentunit",
)
DISK = timeseries(
    "Free disk space",
    "Share of space that is free for ordinary users.",
    promql(
        f"resource_disk_available_bytes{{{HOST}}} / resource_disk_size_bytes{{{HOST}}}", "{{instance}} {{mountpoint}}"
    ),
    unit="percentunit",
    max=1,
)
INODES = timeseries(
    "Inodes left",
    "Share of free inodes; without one, no file can be created, even with free space.",
    promql(
        f"resource_disk_inodes_free{{{HOST}}} / (resource_disk_inodes{{{HOST}}} > 0)", "{{instance}} {{mountpoint}}"
    ),
    unit="percentunit",
    max=1,
)
BUSY = timeseries(
    "Disks busy",
    "Share of time in which the device was busy.",
    promql(rate("resource_disk_busy_seconds_total", by="instance, device"), "{{instance}} {{device}}"),
    unit="percentunit",
)
NETWORK = timeseries(
    "Network",
    "Bytes received and sent.",
    promql(rate("resource_network_receive_bytes_total"), "{{instance}} in"),
    promql(rate("resource_network_transmit_bytes_total"), "{{instance}} out"),
    unit="Bps",
)
LOST = timeseries(
    "Network errors and drops",
    "Errors and dropped packets, received and sent.",
    promql(
        f"{rate('resource_network_receive_errors_total')} + {rate('resource_network_transmit_errors_total')}",
        "{{instance}} errors",
    ),
    promql(
        f"{rate('resource_network_receive_drops_total')} + {rate('resource_network_transmit_drops_total')}",
        "{{instance}} drops",
    ),
    unit="pps",
)
PROCESSES = timeseries(
    "Processes and files",
    "Share of the kernel's limits in use.",
    promql(f"resource_processes{{{HOST}}} / resource_processes_limit{{{HOST}}}", "{{instance}} processes"),
    promql(f"resource_file_handles{{{HOST}}} / resource_file_handles_limit{{{HOST}}}", "{{instance}} files"),
    unit="percentunit",
)
CGROUP = timeseries(
    "In a container",
    "Share of the memory limit in use, and share of time throttled by the CPU limit. Absent without limits.",
    promql(
        f"resource_cgroup_memory_working_set_bytes{{{HOST}}} / resource_cgroup_memory_limit_bytes{{{HOST}}}",
        "{{instance}} memory",
    ),
    promql(rate("resource_cgroup_cpu_throttled_seconds_total"), "{{instance}} throttled"),
    unit="percentunit",
)
READ = timeline(
    "Resources read",
    "Whether the last scrape could read each kind of resource.",
    promql(f"min by (resource) (resource_scrape_success{{{HOST}}})", "{{resource}}"),
    texts={"1": ("yes", "green"), "0": ("no", "red")},
)

DASHBOARD: Json = dashboard(
    "responder-host",
    "Exporters and host",
    "Whether the checks run, and the free resources of the hosts.",
    Row(
        "Exporters",
        [
            Line(5, [(12, UP), (4, CHECKS), (4, UNANSWERED), (4, RELOADED)]),
            Line(7, [(12, PROBES), (12, LAG)]),
            Line(7, [(12, ALERTS), (12, CERTIFICATES)]),
        ],
    ),
    Row(
        "Host",
        [
            Line(8, [(8, USED), (8, CPU), (8, MEMORY)]),
            Line(7, [(8, SWAP), (8, LOAD), (8, PRESSURE)]),
            Line(7, [(8, DISK), (8, INODES), (8, BUSY)]),
            Line(7, [(8, NETWORK), (8, LOST), (8, PROCESSES)]),
            Line(7, [(12, CGROUP), (12, READ)]),
        ],
    ),
    variables=(of_label("instance", "Exporter", "resource_cpus"),),
    marks=marks(of_service=False),
)
