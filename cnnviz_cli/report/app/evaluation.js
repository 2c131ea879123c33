// The leaderboard of an evaluation as a live table: bars, errors, the band of the controls, curves.
(function (R) {
  'use strict';
  const {html, useState} = V, S = R.state;
  const WIDE = 84, TALL = 18;

  // What all bars of a column are drawn in: from the least to the most, with errors, controls, chance and 0, which bars
  // begin at. They have no axis, so one that begins elsewhere misleads.
  function extent(column, rows) {
    const values = [0];
    for (const row of rows) {
      const cell = row.cells[column.name];
      if (cell) values.push(cell.mean - (cell.error ?? 0), cell.mean + (cell.error ?? 0));
    }
    values.push(...(column.controls ?? []));
    if (Number.isFinite(column.chance)) values.push(column.chance);
    const lo = Math.min(...values), hi = Math.max(...values);
    return lo < hi ? [lo, hi] : [lo - 0.5, hi + 0.5];
  }

  // Digits behind the point, the same in all of a column: as many as the largest error of a method leaves any sense to.
  function digitsOf(column, rows) {
    const cells = rows.filter(row => !row.control).map(row => row.cells[column.name]).filter(Boolean);
    const error = Math.max(0, ...cells.map(cell => cell.error ?? 0));
    if (error > 0) return Math.min(4, Math.max(0, 1 - Math.floor(Math.log10(error))));
    const most = Math.max(0, ...cells.map(cell => Math.abs(cell.mean)));
    return most >= 100 ? 0 : most >= 0.1 || most === 0 ? 2 : 4;
  }
  // Without the sign of a zero.
  const fixed = (value, digits) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, '');

  function Bar({cell, column, range}) {
    const [lo, hi] = range, x = value => (value - lo) / (hi - lo) * WIDE, zero = x(Math.min(hi, Math.max(lo, 0)));
    const end = x(cell.mean), band = column.controls?.map(x);
    return html`<svg class="bar" viewBox="0 0 ${WIDE} ${TALL}" width=${WIDE} height=${TALL} aria-hidden="true">
      ${band && html`<rect class="band" x=${band[0]} y="0" width=${Math.max(1.5, band[1] - band[0])} height=${TALL} />`}
      <rect class=${cell.beats_controls === false ? 'weak' : 'mean'} x=${Math.min(zero, end)} y="5"
        width=${Math.max(1, Math.abs(end - zero))} height=${TALL - 10} rx="1" />
      ${cell.error !== null && cell.error !== undefined && html`<line class="error" x1=${x(cell.mean - cell.error)} x2=${x(cell.mean + cell.error)}
        y1=${TALL / 2} y2=${TALL / 2} />`}
      ${Number.isFinite(column.chance) && html`<line class="chance" x1=${x(column.chance)} x2=${x(column.chance)} y1="1" y2=${TALL - 1} />`}</svg>`;
  }

  function Cell({cell, column, range, digits}) {
    if (!cell) return html`<td class="none"><span aria-hidden="true">–</span><span class="sr">not judged</span></td>`;
    const known = Number.isFinite(cell.error) && cell.error > 0;
    const mean = fixed(cell.mean, digits), error = known ? ` ± ${cell.error.toFixed(digits)}` : '';
    return html`<td title=${`${R.number(cell.mean)}, ${R.count(cell.count, 'image')}`}><div class="judged"><${Bar} cell=${cell} column=${column} range=${range} />
      <span class="number">${mean}<span class="dim">${error}</span></span>
      ${cell.beats_controls === false && html`<span class="flag" title="not better than every control by one standard error">no
        better<span class="sr"> than the controls</span></span>`}</div></td>`;
  }

  // Whether the images tell the two that lead apart, as the figure says it.
  function apart(board) {
    const [first, second] = board.rows.filter(row => !row.control)
      .map(row => [row.title, row.layer, row.run && `of ${row.run}`].filter(Boolean).join(' '));
    const wanted = board.tell_apart, number = R.count(board.images, 'image');
    if (!wanted || second === undefined) return '';
    return wanted <= board.images ? `${number} tell ${first} and ${second} apart: ${wanted.toLocaleString('en')} would do.`
      : `${number} do not tell ${first} and ${second} apart: about ${wanted.toLocaleString('en')} would, at two standard errors of `
        + 'the difference in the same image.';
  }

  const ENDS = {high: 'higher is better', low: 'lower is better', none: 'describes'};
  function Board({board, at}) {
    const usual = [board.order_by, board.columns.find(of => of.name === board.order_by)?.better !== 'low'];
    const [[by, down], sortBy] = useState(usual);
    const key = row => (by === 'passes' ? row.passes ?? NaN : by === 'title' ? null : row.cells[by]?.mean ?? NaN);
    const compare = (a, b) => {
      if (by === 'title') return (down ? -1 : 1) * (a.title < b.title ? -1 : 1);
      const x = key(a), y = key(b);
      return Number.isNaN(x) ? (Number.isNaN(y) ? 0 : 1) : Number.isNaN(y) ? -1 : down ? y - x : x - y;
    };
    const methods = board.rows.filter(row => !row.control).sort(compare), controls = board.rows.filter(row => row.control).sort(compare);
    const ranges = Object.fromEntries(board.columns.map(of => [of.name, extent(of, board.rows)]));
    const digits = Object.fromEntries(board.columns.map(of => [of.name, digitsOf(of, board.rows)]));
    const Head = ({name, title, notes, first}) => html`<th scope="col" aria-sort=${by !== name ? 'none' : down ? 'descending' : 'ascending'}>
      <button type="button" onClick=${() => sortBy([name, by === name ? !down : first])}>${title}
        <span class="arrow" aria-hidden="true">${by === name ? (down ? '↓' : '↑') : ''}</span></button>
      ${notes?.map(note => html`<small key=${note}>${note}</small>`)}</th>`;
    const Row = ({row}) => html`<tr class=${row.control ? 'control' : ''}><th scope="row">${row.title}
        ${row.layer && html` <span class="dim">${row.layer}</span>`}${row.marks?.map(mark => html`<small key=${mark}>${mark}</small>`)}</th>
      <td class="number">${row.passes ?? html`<span class="dim">control</span>`}</td>
      ${board.columns.map(of => html`<${Cell} key=${of.name} cell=${row.cells[of.name]} column=${of} range=${ranges[of.name]}
        digits=${digits[of.name]} />`)}</tr>`;
    const told = apart(board);
    return html`<section class="board"><h2>${board.title}</h2>${board.subtitle && html`<p class="dim">${board.subtitle}</p>`}
      <div class="scroll" tabindex="0" role="group" aria-label="Leaderboard"><table class="leaderboard">
        <caption class="sr">${board.title}. Methods by measure; heads sort.</caption>
        <thead><tr><${Head} name="title" title="Method" first=${false} /><${Head} name="passes" title="Passes" first=${false} />
          ${board.columns.map(of => html`<${Head} key=${of.name} name=${of.name} title=${of.title} first=${of.better !== 'low'}
            notes=${[ENDS[of.better], Number.isFinite(of.alpha) ? `images agree: α ${of.alpha.toFixed(2)}` : ''].filter(Boolean)} />`)}</tr></thead>
        <tbody>${methods.map(row => html`<${Row} key=${`${row.title} ${row.layer}`} row=${row} />`)}</tbody>
        ${controls.length > 0 && html`<tbody>${controls.map(row => html`<${Row} key=${`${row.title} ${row.layer}`} row=${row} />`)}</tbody>`}
      </table></div>
      <p class="legend keyed dim"><span><span class="swatch mean"></span> mean, with one standard error</span>
        ${board.columns.some(of => of.controls) && html`<span><span class="swatch band"></span> between the controls, which have not
          seen the network</span>`}
        ${board.columns.some(of => Number.isFinite(of.chance)) && html`<span><span class="swatch chance"></span> chance</span>`}</p>
      ${[told, ...(board.foot ?? [])].filter(Boolean).map(sentence => html`<p class="dim" key=${sentence}>${sentence}</p>`)}
      ${board.figure && html`<p><a href=${board.figure} target="_blank" rel="noopener">The figure of this evaluation</a></p>`}
      ${(board.charts ?? []).map(chart => html`<${Chart} key=${`${at} ${chart.title}`} chart=${chart} rows=${methods.concat(controls)}
        digits=${digits[chart.column]} />`)}</section>`;
  }

  // The curves of each method that has them, small, side by side, on the same axes.
  const W = 200, H = 120;
  function Chart({chart, rows, digits}) {
    const shown = rows.filter(row => chart.curves.some(([name]) => row.curves?.[name]));
    if (!shown.length) return null;
    const means = shown.flatMap(row => chart.curves.flatMap(([name]) => row.curves[name]?.means ?? []));
    const lo = Math.min(0, ...means), hi = Math.max(...means, lo + 1e-9), y = value => H - (value - lo) / (hi - lo) * H;
    return html`<h3>${chart.title}</h3>
      <p class="legend keyed dim">${chart.curves.map(([name, words], k) => html`<span key=${name}><span class=${`swatch line c${k}`}></span> ${words}</span>`)}
        ${chart.across && html`<span>Across: ${chart.across}.</span>`}
        ${chart.up && html`<span>Up: ${chart.up}, ${R.number(lo)} to ${R.number(hi)}.</span>`}</p>
      <div class="charts">${shown.map(row => html`<figure key=${`${row.title} ${row.layer}`}>
      <figcaption><span class="name" title=${row.title}>${row.title} ${row.layer && html`<span class="dim">${row.layer}</span>`}</span>
        ${row.cells[chart.column] && html`<span class="number">${digits === undefined ? R.number(row.cells[chart.column].mean)
          : fixed(row.cells[chart.column].mean, digits)}</span>`}</figcaption>
      <svg viewBox="-4 -4 ${W + 8} ${H + 8}" role="img" aria-label=${`${chart.title}, ${row.title}: ${chart.curves.map(([name, words]) => {
        const curve = row.curves[name];
        return curve ? `${words} from ${R.number(curve.means[0])} to ${R.number(curve.means.at(-1))}` : '';
      }).filter(Boolean).join('; ')}`}><path class="axis" d="M0 0V${H}H${W}" />
        ${chart.curves.map(([name], k) => {
          const curve = row.curves[name];
          return curve && html`<polyline key=${name} class=${`curve c${k}`} points=${curve.shares.map(
            (share, at) => `${(share * W).toFixed(1)},${y(curve.means[at]).toFixed(1)}`).join(' ')} />`;
        })}</svg></figure>`)}</div>`;
  }

  R.Evaluation = () => html`<main class="evaluation" id="part" aria-label="Evaluation">
    ${R.index.tabs.evaluation.map((board, at) => html`<${Board} key=${at} board=${board} at=${at} />`)}</main>`;
})(globalThis.R);
