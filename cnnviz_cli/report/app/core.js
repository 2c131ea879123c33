// What the page knows from the start: the index that stands in it, as columns, and the words for what is in them.
(function (R) {
  'use strict';
  const index = JSON.parse(document.getElementById('index').textContent);
  const KINDS = {
    u1: [Uint8Array, 0xff], u2: [Uint16Array, 0xffff], u4: [Uint32Array, 0xffffffff], f4: [Float32Array, NaN],
    f8: [Float64Array, NaN],
  };

  R.index = index;
  R.n = index.n;
  R.labels = index.labels;
  R.views = index.views;
  R.runs = index.runs;
  R.measures = index.measures ?? [];
  R.disagreements = index.disagreements ?? [];
  R.html = V.html;

  R.bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

  const columns = new Map();
  // The values of a column, one for each record; null where the report has no such column.
  R.column = name => {
    if (!columns.has(name)) {
      const spec = Object.hasOwn(index.columns, name) ? index.columns[name] : null;
      columns.set(name, spec && new KINDS[spec.kind][0](R.bytes(spec.data).buffer));
    }
    return columns.get(name);
  };
  R.none = name => KINDS[index.columns[name].kind][1];
  // The value of record i, or null where it has none.
  R.value = (name, i) => {
    const values = R.column(name);
    if (!values) return null;
    return Number.isNaN(values[i]) || values[i] === R.none(name) ? null : values[i];
  };

  R.palettes = Object.fromEntries(Object.entries(index.palettes).map(([name, text]) => [name, R.bytes(text)]));
  R.signedPalettes = (index.signed_palettes ?? ['blue-red', 'purple-green']).filter(name => name in R.palettes);
  R.plainPalettes = Object.keys(R.palettes).filter(name => !R.signedPalettes.includes(name));
  // The palette of a view: what the reader chose, if it is of the view's kind, or the one its figures were drawn with.
  R.paletteOf = view => {
    const chosen = R.state.palette.value, of = view?.signed ? R.signedPalettes : R.plainPalettes;
    if (of.includes(chosen)) return chosen;
    return of.includes(view?.palette) ? view.palette : of[0];
  };

  // Words.
  R.OUTCOMES = [
    {key: 'right', word: 'right', mark: '✓'}, {key: 'wrong', word: 'wrong', mark: '✗'},
    {key: 'unknown', word: 'truth unknown', mark: '·'}, {key: 'failed', word: 'failed', mark: '!'},
  ];
  R.label = k => R.labels[k] ?? 'no class';
  R.count = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
  // As in the figures: core/text.py's format_percent.
  R.percent = share => {
    if (!Number.isFinite(share)) return '';
    if (share > 0 && share < 0.0005) return '< 0.1 %';
    if (share >= 0.9995 && share < 1) return '> 99.9 %';
    const of = 100 * share;
    // Python rounds halves to even, scripts up: they differ in 6.25 and its like alone.
    return `${(of % 1 === 0.25 ? of - 0.05 : of).toFixed(1)} %`;
  };
  // Three digits that say something: 0.0123, 12.3, 1.2e-7.
  R.number = value => {
    if (!Number.isFinite(value)) return '–';
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(1);
    return String(+value.toPrecision(3));
  };

  R.source = i => index.sources[i];
  const places = new Map(index.sources.map((source, i) => [source, i]));
  R.indexOf = source => places.get(source) ?? -1;
  R.outcome = (i, run = R.run.value) => R.column(`outcome.${run}`)?.[i] ?? 2;
  R.stateOf = (i, run = R.run.value) => index.states[R.value(`state.${run}`, i) ?? 0] ?? 'ok';
  // The column of what is true as a run was told it: of its own, where it was told something else than the others.
  R.truthColumn = (run = R.run.value) => (R.column(`truth.${run}`) ? `truth.${run}` : 'truth');
  // Whether the truth of any image is known.
  const truth = R.column('truth');
  R.truths = truth ? truth.some(k => k !== R.none('truth')) : false;
  // 'Grad-CAM, layer4', and the checkpoint where there are several.
  R.viewTitle = (view, long = R.runs.length > 1) =>
    [view.title, view.layer && R.views.some(v => v.title === view.title && v.layer !== view.layer) ? view.layer : '',
      long ? R.runs[view.run].name : ''].filter(Boolean).join(' · ');
})(globalThis.R = globalThis.R || {});
