// The parts that panels are made of. Each takes the key of the state that it shows and sets.
(function (R) {
  'use strict';
  const {html, useLayoutEffect} = V, S = R.state;

  // A dialog opens and closes with what it shows, at once: an effect behind the next frame would open it anew where Esc
  // has closed it in the meantime.
  R.useModal = (ref, open) => useLayoutEffect(() => {
    if (open && !ref.current.open) ref.current.showModal();
    if (!open && ref.current.open) ref.current.close();
  }, [open]);

  // One of several, or none: buttons that are pressed. `of`: [value, mark, words, count].
  const Chips = ({what, of, label}) => html`<div class="chips" role="group" aria-label=${label}>
    ${of.map(([value, mark, words, count]) => html`<button type="button" key=${value} class="chip"
      aria-pressed=${S[what].value === value ? 'true' : 'false'}
      onClick=${() => { S[what].value = S[what].value === value ? R.usual(what) : value; }}>
      ${mark && html`<span class="mark ${value}" aria-hidden="true">${mark}</span>`}<span>${words}</span>
      ${count !== undefined && html`<span class="number">${count.toLocaleString('en')}</span>`}</button>`)}</div>`;

  // `of`: [value, words] or [value, words, disabled].
  const Select = ({what, label, of, hidden = false, onPick}) => {
    const value = String(S[what].value), number = typeof R.usual(what) === 'number';
    const pick = onPick ?? (chosen => { S[what].value = number ? Number(chosen) : chosen; });
    return html`<label class="field"><span class=${hidden ? 'sr' : 'name'}>${label}</span>
      <select value=${value} onChange=${event => pick(event.target.value)}>
      ${of.map(([key, words, off]) => html`<option key=${key} value=${key} disabled=${off}
        selected=${String(key) === value}>${words}</option>`)}</select></label>`;
  };

  const Range = ({what, label, min = 0, max = 1, step = 0.01, words = String, hidden = false}) => html`
    <label class="field range"><span class=${hidden ? 'sr' : 'name'}>${label}</span>
    <input type="range" min=${min} max=${max} step=${step} value=${S[what].value}
      aria-valuetext=${words(S[what].value)}
      onInput=${event => { S[what].value = Number(event.target.value); }} />
    <output>${words(S[what].value)}</output></label>`;

  const Toggle = ({what, label}) => html`<label class="field toggle"><input type="checkbox" checked=${S[what].value}
    onChange=${event => { S[what].value = event.target.checked; }} /><span class="name">${label}</span></label>`;

  const Section = ({title, note, children}) => html`<section><h2>${title}${note && html`<small>${note}</small>`}</h2>
    ${children}</section>`;

  // How a column is spread: from the least to the most of all images.
  const BARS = 24;
  const ends = new Map();
  function endsOf(name) {
    if (!ends.has(name)) {
      const values = R.column(name);
      let lo = Infinity, hi = -Infinity;
      for (const value of values) {
        if (value < lo) lo = value;
        if (value > hi) hi = value;
      }
      if (name.startsWith('probability.')) [lo, hi] = [0, 1];
      ends.set(name, {lo, hi});
    }
    return ends.get(name);
  }
  // Bars of one width: of the images `of`, what lies between `from` and `to` in a stronger colour.
  const Spread = ({name, of, from, to}) => {
    const {lo, hi} = endsOf(name), width = (hi - lo || 1) / BARS, values = R.column(name), bars = new Array(BARS).fill(0);
    for (const i of of) if (values[i] >= lo && values[i] <= hi) bars[Math.min(BARS - 1, Math.floor((values[i] - lo) / width))]++;
    const most = Math.max(1, ...bars);
    return html`<svg class="spread" viewBox="0 0 ${BARS * 10} 40" preserveAspectRatio="none" aria-hidden="true">
      ${bars.map((n, k) => {
        const tall = n ? Math.max(1.5, 40 * Math.sqrt(n / most)) : 0;
        const off = lo + (k + 1) * width <= from || lo + k * width >= to;
        return html`<rect key=${k} x=${k * 10 + 1} width="8" y=${40 - tall} height=${tall} class=${off ? 'off' : ''} />`;
      })}</svg>`;
  };
  Spread.of = endsOf;

  R.ui = {Chips, Select, Range, Toggle, Section, Spread};
})(globalThis.R);
