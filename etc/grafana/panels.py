"""The kinds of panels that the dashboards have, and what all dashboards share."""

from __future__ import annotations

from grafana_foundation_sdk.builders import (
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    TextBoxVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .queries import Query

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
GREEN, ORANGE, RED = "green", "orange", "red"
HEIGHT = 8
"""Rows of the grid that a graph takes. The grid has 24 columns."""

CONNECTED = {"0": ("not connected", RED), "1": ("connected", GREEN)}
BLOCKED = {"0": ("accepts messages", GREEN), "1": ("blocked", RED)}


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 12,
    stacked: bool = False,
    limit: float | None = None,
) -> timeseries.Panel:
    """Return a panel of lines over time. The area above *limit* is red: an alert has the same bound."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(HEIGHT)
        .fill_opacity(20 if stacked else 5)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.AREA)
        panel.thresholds(_steps((GREEN, None), (RED, limit))).thresholds_style(style)
    return panel.targets(list(map(_target, queries, "ABCDEFGH")))


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    warn: float | None = None,
    limit: float | None = None,
    least: float | None = None,
    span: int = 4,
) -> stat.Panel:
    """Return a panel of one number. It is orange from *warn* on, red from *limit* on, and red below *least*."""
    lowest = GREEN if least is None else RED
    bounds = [
        (color, value) for color, value in ((GREEN, least), (ORANGE, warn), (RED, limit)) if value is not None
    ]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(4)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_steps((lowest, None), *bounds))
        .targets([_target(Query(expr, title), "A")])
    )


def distribution(title: str, description: str, buckets: str, *, span: int = 12) -> heatmap.Panel:
    """Return a panel of a histogram's buckets over time, in seconds."""
    target = _target(Query(buckets, "{{le}}"), "A").format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(HEIGHT)
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .targets([target])
    )


def states(
    title: str, description: str, query: Query, words: dict[str, tuple[str, str]], *, span: int = 12
) -> statetimeline.Panel:
    """Return a panel of a gauge's values over time. *words* has the word and color of each value."""
    options = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(words.items())
    }
    mapping: ValueMapping = ValueMap(options=options)
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(HEIGHT)
        .mappings([mapping])
        .show_value(VisibilityMode.NEVER)
        .fill_opacity(70)
        .targets([_target(query, "A")])
    )


def listing(
    title: str, description: str, unit: str, expr: str, *columns: str, span: int = 12, value: str = "Value"
) -> table.Panel:
    """Return a panel of the newest values, one line each, with *columns* of labels and the value's column."""
    names = {"Value": value}
    organize = {
        "indexByName": {name: index for index, name in enumerate([*columns, "Value"])},
        "renameByName": names,
    }
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(HEIGHT)
        .filterable(True)
        .targets([_target(Query(expr, ""), "A").format(PromQueryFormat.TABLE).instant()])
        .transformations(
            [
                DataTransformerConfig(
                    id_val="filterFieldsByName", options={"include": {"names": [*columns, "Value"]}}
                ),
                DataTransformerConfig(id_val="organize", options=organize),
            ]
        )
    )


def dashboard(uid: str, title: str, description: str, *variables: QueryVariable, view: str = "") -> Dashboard:
    """Return a dashboard without panels: with links to the others, and the variables that all of them have.

    :param view: the view of the manager's page that its link opens, such as ``workers``.
    """
    made = (
        Dashboard(title)
        .uid(f"txmicro-{uid}")
        .description(description)
        .tags(["txmicro"])
        .refresh("15s")
        .time("now-30m", "now")
        .timezone("browser")
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["txmicro"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            DashboardLink("Manager's page")
            .type(DashboardLinkType.LINK)
            .icon("external link")
            .tooltip("The page of the SystemManager: single jobs, failures, dead letters")
            .url(f"$page#/{view}")
            .target_blank(True)
        )
        .annotation(
            AnnotationQuery()
            .name("Process started")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("blue")
            .expr('time() - process_start_time_seconds{job="$job"} < 60')
        )
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(choice("job", "System", "label_values(microservices_bus_connected, job)"))
    )
    for variable in variables:
        made.with_variable(variable)
    page = TextBoxVariable("page").label("Manager's page").default_value("http://localhost:9091/")
    return made.with_variable(page)


def fill(made: Dashboard, *contents: Builder[Panel] | tuple[str]) -> Dashboard:
    """Add panels to a dashboard, and return it. A tuple is the title of the row that follows."""
    for content in contents:
        if isinstance(content, tuple):
            made.with_row(Row(*content))
        else:
            made.with_panel(content)
    return made


def choice(name: str, label: str, query: str) -> QueryVariable:
    """Return a variable whose values are those that *query* finds."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .datasource(SOURCE)
        .ref_id(ref)
        .range()
    )


def _steps(*steps: tuple[str, float | None]) -> ThresholdsConfig:
    made = [Threshold(color=color, value=value) for color, value in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)
