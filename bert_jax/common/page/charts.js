/* Draws every figure of class `chart` from the JSON inside it; charts.py describes the fields. */
(() => {
  "use strict";
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ofLine = (line) => color(`--c${line.color % 8}`);
  const ofMark = { phase: "--c7", restart: "--c3", warning: "--c4", checkpoint: "--c7" };
  const NEAR = 6; // pixels from the pointer to a mark whose text is shown

  const number = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    if (size && size < 1e-3) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  };

  function draw(figure) {
    const chart = JSON.parse(figure.querySelector("script").textContent);
    const lines = chart.lines.filter((line) => line.x.length);
    const data = uPlot.join(lines.map((line) => [line.x, line.y]));
    const show = (value) => (chart.percent ? `${number(100 * value)} %` : number(value));
    const last = lines.map((line) => line.y.findLast((value) => value !== null));

    // The point of a line nearest to the pointer: lines have their points at different places.
    const nearest = (plot, index, hovered) => {
      if (index === 0 || data[index][hovered] != null) return hovered;
      for (let away = 1; away < data[0].length; away++) {
        if (data[index][hovered - away] != null) return hovered - away;
        if (data[index][hovered + away] != null) return hovered + away;
      }
      return hovered;
    };

    const drawMarks = (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      for (const [name, value] of chart.levels) {
        const y = Math.round(plot.valToPos(value, "y", true));
        if (y < bbox.top || y > bbox.top + bbox.height) continue;
        ctx.strokeStyle = ctx.fillStyle = color("--quiet");
        ctx.setLineDash([6, 4]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.textAlign = "right"; // where a falling loss has left the line
        ctx.textBaseline = "bottom";
        ctx.fillText(name, bbox.left + bbox.width - 4, y - 2 * devicePixelRatio);
      }
      for (const mark of chart.marks) {
        const x = Math.round(plot.valToPos(mark.x, "x", true));
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        const isTick = mark.kind === "checkpoint";
        ctx.strokeStyle = color(ofMark[mark.kind]);
        ctx.setLineDash(isTick ? [] : [3, 3]);
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top + (isTick ? bbox.height - 8 * devicePixelRatio : 0));
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
    };

    const pointed = figure.querySelector(".pointed");
    const nameMarks = (plot) => {
      const near = chart.marks.filter(
        (mark) => Math.abs(plot.valToPos(mark.x, "x") - plot.cursor.left) <= NEAR,
      );
      pointed.textContent = near.map((mark) => mark.text).join(" · ");
    };

    const axis = { stroke: () => color("--quiet"), grid: { stroke: () => color("--line"), width: 1 },
      ticks: { stroke: () => color("--line"), width: 1 } };
    const width = () => Math.floor(figure.getBoundingClientRect().width);
    const ends = [data[0][0], data[0].at(-1)];
    const pad = ends[0] === ends[1] ? Math.max(1, Math.abs(ends[0]) / 10) : 0;
    const withLevels = (plot, low, high) => {
      for (const [, value] of chart.levels) [low, high] = [Math.min(low, value), Math.max(high, value)];
      if (low === high) [low, high] = [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
      return uPlot.rangeNum(low, high, 0.05, true);
    };

    return new uPlot(
      {
        width: width(),
        height: 240,
        scales: {
          x: { time: false, distr: chart.is_log_x ? 3 : 1,
            range: chart.is_log_x || !pad ? undefined : () => [ends[0] - pad, ends[1] + pad] },
          y: chart.is_log_y ? { distr: 3 } : { range: withLevels },
        },
        axes: [
          { ...axis, label: chart.x_label, labelSize: 18, labelFont: "12px system-ui, sans-serif", size: 34 },
          { ...axis, size: 62, values: (plot, values) => values.map((v) => (v === null ? "" : show(v))) },
        ],
        series: [
          { label: chart.x_label, value: (plot, value) => (value == null ? "last" : number(value)) },
          ...lines.map((line, index) => ({
            label: line.name,
            stroke: () => ofLine(line),
            width: 1.5,
            dash: line.is_dashed ? [6, 3] : undefined,
            spanGaps: true,
            points: { show: line.has_points, size: 5 },
            paths: line.is_stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
            value: (plot, value) => {
              const shown = value ?? last[index];
              return shown == null ? "none" : show(shown);
            },
          })),
        ],
        cursor: { dataIdx: nearest, sync: chart.group ? { key: chart.group } : undefined,
          drag: { x: true, y: false } },
        hooks: { draw: [drawMarks], setCursor: [nameMarks] },
      },
      data,
      figure.querySelector(".plot"),
    );
  }

  const figures = [...document.querySelectorAll("figure.chart")];
  let plots = figures.map(draw);
  figures.forEach((figure, index) => {
    new ResizeObserver(() => {
      const width = Math.floor(figure.getBoundingClientRect().width);
      if (width && width !== plots[index].width) plots[index].setSize({ width, height: 240 });
    }).observe(figure);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach((plot) => plot.destroy());
    plots = figures.map(draw);
  });
})();
