// The dialog of one picture: which two maps it compares, its bar, and what keys do in it.
(function (R) {
  'use strict';
  const {html, useEffect, useLayoutEffect, useRef} = V;
  const MODES = [['one', 'One'], ['side', 'Side by side'], ['slider', 'Slider'], ['blink', 'Blink']];

  // ---- which maps: A is that of the grid, B another of the same picture

  const other = (record, a) => {
    const asked = R.state.other.value, dot = asked.indexOf('.');
    if (asked === 'photo') return null;
    const view = Number(asked.slice(0, dot)), role = asked.slice(dot + 1);
    const named = dot > 0 && record.maps.find(map => map.view === view && R.plays(map, role));
    if (named || !a) return named || null;
    // By default the same method in another run, of the same class if it has one; or the same view of another class, or
    // another map.
    const others = record.maps.filter(map => map !== a), drawn = others.filter(R.drawable), {run, method, family} = R.views[a.view];
    const elsewhere = drawn.filter(map => R.views[map.view].run !== run && R.views[map.view].method === method && R.views[map.view].family === family);
    if (elsewhere.length) return elsewhere.find(map => map.target === a.target) || elsewhere.find(map => R.plays(map, R.state.role.value)) || elsewhere[0];
    return others.find(map => map.view === a.view) || drawn.find(map => R.views[map.view].method === R.views[a.view].method) || drawn[0] || others[0] || null;
  };

  R.targetOf = map => map.title || (map.target === null ? '' : R.label(map.target));

  // What a map is called where several are compared.
  R.titleOf = map => {
    if (!map) return 'the image';
    const view = R.views[map.view], run = R.runs[view.run], several = R.views.filter(v => v.title === view.title && v.run === view.run).length > 1;
    return [view.title, several && view.layer, R.targetOf(map), R.runs.length > 1 && run.name].filter(Boolean).join(' · ');
  };

  // The scale that a map is drawn on beside another: null is its own. One scale for all is the widest of the views of
  // one method, so that random weights do not look as sure as trained ones.
  R.scaleFor = (a, b) => map => {
    if (!map || R.state.scale.value !== 'shared') return null;
    const alike = [a, b].filter(one => one && R.views[one.view].method === R.views[map.view].method).map(one => R.views[one.view].shared || one.scale).filter(Boolean);
    return alike.length ? [Math.min(...alike.map(s => s[0])), Math.max(...alike.map(s => s[1]))] : null;
  };

  // A map that lies as a grey picture beside the page, in more detail than the page's own numbers.
  R.fileOf = map => (map.image && R.state.scale.value !== 'shared' ? map.image : '');

  // Whether a map is shown as the figure that was drawn of it.
  R.asFigure = (record, map) => Boolean(map?.figure && (record.drawn || R.views[map.view].kind === 'figure'));

  // ---- what keys and buttons do

  let now = null;  // {i, record, a} of the picture that is open
  R.detail = {
    zoom() {},
    flip() {},
    step(by) {
      const at = now ? R.position(now.i) + by : -1, next = R.order.value[at];
      if (next === undefined || at === by - 1) return;  // what the filters leave out has no neighbours
      R.openDetail(next);
    },
    pick(n) {
      const map = now?.record?.maps[n];
      if (map) R.set({view: map.view, role: map.role === 'both' ? R.state.role.value : R.roleOf(map)});
    },
    compare(map) {
      R.set({other: map ? `${map.view}.${map.role === 'both' ? 'says' : R.roleOf(map)}` : 'photo'});
    },
    openFile() {
      const path = now?.a?.figure || now?.record?.photo;
      if (path) open(path, '_blank', 'noopener');
    },
  };
  R.openDetail = i => R.set({open: R.source(i)});

  function Shown({i, close}) {
    const record = R.useRecord(i), at = R.position(i), order = R.order.value, outcome = R.OUTCOMES[R.outcome(i)], mode = R.state.mode.value;
    const a = record ? R.mapOf(record) : null, b = record ? other(record, a) : null;
    now = {i, record, a};
    useEffect(() => { for (const by of [1, -1]) if (order[at + by] !== undefined) R.record(order[at + by]); }, [at]);
    return html`<header class=bar><button type=button class=icon onClick=${() => R.detail.step(-1)} disabled=${at <= 0} aria-label="Previous image" title="Previous image (←)">←</button>
        <button type=button class=icon onClick=${() => R.detail.step(1)} disabled=${at < 0 || at + 1 >= order.length} aria-label="Next image" title="Next image (→)">→</button>
        <h2 id=detail-title tabindex=-1>${R.source(i)}</h2><span class="outcome ${outcome.key}">${outcome.mark} ${outcome.word}</span>
        <span class="place dim">${at < 0 ? 'not among those that are shown' : `${(at + 1).toLocaleString('en')} of ${order.length.toLocaleString('en')}`}</span><span class=grow></span>
        <span class=modes role=group aria-label="How to compare">${MODES.map(([key, words]) => html`<button type=button aria-pressed=${mode === key} onClick=${() => R.set({mode: key})}>${words}</button>`)}</span>
        <button type=button class=icon onClick=${close} aria-label="Close" title="Close (Esc)">✕</button></header>
      ${record ? html`<${R.Stage} i=${i} record=${record} a=${a} b=${b} /><${R.Facts} i=${i} record=${record} a=${a} b=${b} />` : html`<p class=nothing>…</p>`}
      <p class=sr aria-live=polite>${`${R.source(i)}, ${outcome.word}, ${a ? R.titleOf(a) : 'no map'}`}</p>
      ${R.toast.value && html`<p class=told role=status>${R.toast.value}</p>`}`;
  }

  R.Detail = () => {
    const dialog = useRef(), source = R.state.open.value, i = source === '' ? -1 : R.indexOf(source), open = i >= 0;
    useLayoutEffect(() => {
      const box = dialog.current;
      if (open && !box.open) {
        box.showModal();
        box.querySelector('#detail-title')?.focus();
      } else if (!open && box.open) box.close();
    }, [open]);
    // What is open leads and the dialog follows: an image that is opened while another closes stays open.
    const close = event => {
      event.preventDefault();
      R.set({open: ''});
    };
    const closed = () => {
      if (dialog.current.open) return;
      // The browser gives the focus back to what had it before, which is another image after a step.
      const at = now ? R.position(now.i) : -1;
      if (at >= 0) R.cursor.value = at;
      now = null;
      R.pointer.value = null;
      if (R.state.open.value !== '') R.set({open: ''});
      R.grid.focus();
    };
    return html`<dialog class=detail ref=${dialog} aria-labelledby=detail-title onCancel=${close} onClose=${closed}>${open && html`<${Shown} i=${i} close=${close} />`}</dialog>`;
  };
}(globalThis.R = globalThis.R || {}));
