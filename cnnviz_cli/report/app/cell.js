// One image in the grid: its thumbnail, the map over it, and what the network says.
(function (R) {
  'use strict';
  const {html, useLayoutEffect, useRef} = V, S = R.state;
  const CAPTION = 42;  // pixels: two lines
  R.cellHeight = width => width + CAPTION;

  // An image of w x h in a square of `room`: whole, centred.
  function fit(size, room) {
    const [w, h] = size ?? [1, 1], by = room / Math.max(w, h, 1);
    return [Math.max(1, Math.round(w * by)), Math.max(1, Math.round(h * by))];
  }

  // The map over an image that is shown at w x h. Half the pixels are enough for a thumbnail.
  function Overlay({record, map, w, h}) {
    // Where one races through the images, maps wait until it is over; what has its map keeps it.
    const due = useRef(false);
    if (!due.current) due.current = !R.racing.value;
    return due.current ? html`<${Painted} record=${record} map=${map} w=${w} h=${h} />` : null;
  }
  function Painted({record, map, w, h}) {
    const ref = useRef(), view = R.views[map.view], palette = R.paletteOf(view), scale = R.scaleOf(map);
    const opacity = S.opacity.value, at = R.window(map.box ?? record.seen ?? [0, 0, ...record.size], record.size, w, h);
    const wide = Math.ceil(at.width / 2), tall = Math.ceil(at.height / 2);
    useLayoutEffect(() => {
      R.paint(ref.current, map, {palette, opacity, scale});
    }, [map, palette, opacity, scale, wide, tall]);
    return html`<canvas ref=${ref} width=${wide} height=${tall} aria-hidden="true" style=${{
      left: `${at.left}px`, top: `${at.top}px`, width: `${at.width}px`, height: `${at.height}px`}}></canvas>`;
  }

  function Picture({i, record, room, still}) {
    if (!record) {
      const why = R.useRecord.failed(i) ? 'The data of this image are not there.'
        : still ? 'Not fetched in time. The print button of the page waits for all.' : '';
      return html`<span class="wait">${why}</span>`;
    }
    const run = R.run.value, error = record.runs[run]?.error, map = R.mapOf(record), url = R.thumbUrl(record);
    if (!url) return html`<span class="wait">${error ? `Failed: ${error}` : 'No thumbnail'}</span>`;
    const [w, h] = fit(record.size, room), state = map?.state;
    return html`<span class="stack" style=${{width: `${w}px`, height: `${h}px`}}>
      <img src=${url} width=${w} height=${h} alt="" decoding="async" />
      ${map && !record.drawn && S.overlay.value && R.drawable(map) && html`<${Overlay} record=${record} map=${map} w=${w} h=${h} />`}</span>
      ${state && state !== 'ok' && html`<span class="tag">${state}</span>`}`;
  }

  // What the image is sorted by, where it is a number that the caption does not say.
  function sortedBy(i) {
    const sort = S.sort.value;
    if (!sort.includes('.')) return '';
    const value = R.value(sort, i);
    return value === null ? 'none' : R.number(value);
  }

  // All that the cell shows, in words.
  R.describe = i => {
    const run = R.run.value, outcome = R.outcome(i, run), said = R.value(`predicted.${run}`, i), truth = R.value(R.truthColumn(run), i);
    const words = [`${R.source(i)}:`];
    if (outcome === 3) words.push('failed');
    else if (said !== null) words.push(`${R.label(said)}, ${R.percent(R.value(`probability.${run}`, i))}`);
    if (outcome === 0) words.push('right');
    if (outcome === 1) words.push(`wrong, it is ${R.label(truth)}`);
    const state = R.stateOf(i, run);
    if (state !== 'ok' && state !== 'failed' && outcome !== 3) words.push(`the map is ${state}`);
    const by = sortedBy(i);
    if (by) words.push(`sorted by ${by}`);
    if (R.note(R.source(i))) words.push('with a note');
    return words.join(', ').replace(':,', ':');
  };

  const leaf = source => source.slice(source.lastIndexOf('/') + 1);
  R.Cell = ({i, at, size, still = false}) => {
    const record = R.useRecord(i), run = R.run.value, outcome = R.outcome(i, run), {key, mark} = R.OUTCOMES[outcome];
    const said = R.value(`predicted.${run}`, i), by = sortedBy(i), words = R.describe(i);
    const inside = html`<span class="picture" style=${{height: `${size - 2}px`}}>
        <${Picture} i=${i} record=${record} room=${size - 2} still=${still} />
        ${by && html`<span class="tag value">${by}</span>`}
        ${R.note(R.source(i)) && html`<span class="tag note" aria-hidden="true">✎</span>`}</span>
      <span class="caption"><span class="line"><span class="mark ${key}">${mark}</span>
          <span class="class">${outcome === 3 ? 'failed' : said === null ? leaf(R.source(i)) : R.label(said)}</span>
          ${outcome !== 3 && said !== null && html`<span class="share">${R.percent(R.value(`probability.${run}`, i))}</span>`}</span>
        <span class="line dim"><span class="class">${outcome === 1 ? `is ${R.label(R.value(R.truthColumn(run), i))}` : said === null && outcome !== 3 ? '' : leaf(R.source(i))}</span>
        </span></span>`;
    if (still) return html`<figure class="cell" aria-label=${words}>${inside}</figure>`;
    const current = at === R.cursor.value;
    return html`<button type="button" class="cell" data-at=${at} tabindex=${current ? 0 : -1} aria-label=${words} title=${words}
      style=${{width: `${size}px`, height: `${R.cellHeight(size)}px`}}
      onFocus=${() => { R.cursor.value = at; }}
      onClick=${() => {
        R.cursor.value = at;
        R.openDetail(i);
      }}>${inside}</button>`;
  };
})(globalThis.R);
