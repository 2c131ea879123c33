// Everything by keys, and the list of them.
(function (R) {
  'use strict';
  const {html, signal, useRef} = V, S = R.state;
  R.helpOpen = signal(false);

  const KEYS = [
    ['Anywhere', [
      [['/'], 'find by name or class'], [['r'], 'only what is right'], [['w'], 'only what is wrong'], [['x'], 'clear all filters'],
      [['m'], 'next map or checkpoint'], [['t'], 'the class said, or the true class'], [['p'], 'next palette'],
      [['[', ']'], 'less and more opacity'], [['o'], 'overlay on and off'], [['y'], 'copy the link to this view'], [['?'], 'this list'],
    ]],
    ['In the grid', [
      [['←', '→', '↑', '↓'], 'move'], [['Page Up', 'Page Down'], 'a screen up and down'], [['Home', 'End'], 'first and last image'],
      [['Enter'], 'open'],
    ]],
    ['In an image', [
      [['←', '→'], 'the image before and after; also k and j'], [['Esc'], 'close'], [['c'], 'one, side by side, slider, blink'],
      [['b'], 'the other of the two maps'], [['1', '…', '9'], 'map 1 to 9'], [['+', '−', '0'], 'zoom in, out, whole'],
      [['f'], "open the figure's file"],
    ]],
  ];

  R.Help = () => {
    const ref = useRef(), open = R.helpOpen.value;
    R.useModal(ref, open);
    return html`<dialog class="sheet" ref=${ref} aria-labelledby="help-title" onClose=${() => { R.helpOpen.value = false; }}>
      <div class="sheet-bar"><h2 id="help-title">Keys</h2><span class="grow"></span>
        <button type="button" class="icon" aria-label="Close" onClick=${() => ref.current.close()}>✕</button></div>
      <div class="sheet-body keys" tabindex="0" role="group" aria-label="Keys">${KEYS.map(([title, keys]) => html`<section key=${title}><h3>${title}</h3><dl>
        ${keys.map(([names, words]) => html`<div key=${words}><dt>${names.map(name => (name === '…' ? ' … ' : html`<kbd>${name}</kbd>`))}</dt>
          <dd>${words}</dd></div>`)}</dl></section>`)}
        <p class="dim">The address holds all that is set here: who opens the link sees the same. Made by ${R.index.tool}.</p></div></dialog>`;
  };

  const next = (key, of) => { S[key].value = of[(of.indexOf(S[key].value) + 1) % of.length]; };
  const only = outcome => { S.outcome.value = S.outcome.value === outcome ? '' : outcome; };
  const fade = by => { S.opacity.value = Math.min(1, Math.max(0, Math.round(100 * (S.opacity.value + by)) / 100)); };
  const anywhere = {
    o: () => { S.overlay.value = !S.overlay.value; },
    '[': () => fade(-0.05),
    ']': () => fade(0.05),
    p: () => {
      const view = R.views[S.view.value], of = view?.signed ? R.signedPalettes : R.plainPalettes;
      S.palette.value = of[(of.indexOf(R.paletteOf(view)) + 1) % of.length];
    },
    m: () => {
      // In the grid those that lie over an image; in an image all, of which some are sheets.
      const of = R.views.map((view, k) => k).filter(k => S.open.value !== '' || R.views[k].kind !== 'figure');
      if (of.length) S.view.value = of.find(k => k > S.view.value) ?? of[0];
    },
    t: () => next('role', ['says', 'true']),
    y: () => R.copyLink(),
    '?': () => { R.helpOpen.value = true; },
  };
  const outside = {
    '/': () => {
      R.openPanel();
      const field = document.getElementById('search');
      field?.focus();
      field?.select();
    },
    r: () => only('right'),
    w: () => only('wrong'),
    x: () => R.clear(),
  };
  const inside = {
    ArrowLeft: () => R.detail.step(-1),
    ArrowRight: () => R.detail.step(1),
    k: () => R.detail.step(-1),
    j: () => R.detail.step(1),
    c: () => next('mode', ['one', 'side', 'slider', 'blink']),
    b: () => R.detail.flip(),
    '+': () => R.detail.zoom(1.4),
    '=': () => R.detail.zoom(1.4),
    '-': () => R.detail.zoom(1 / 1.4),
    0: () => R.detail.zoom(0),
    f: () => R.detail.openFile(),
    ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map(n => [n, () => R.detail.pick(n - 1)])),
  };
  const ENTER = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'PageUp', 'PageDown', 'Home', 'End', 'Enter'];
  const typing = target => /^(SELECT|TEXTAREA)$/.test(target.tagName) || target.isContentEditable
    || (target.tagName === 'INPUT' && !['radio', 'range', 'checkbox'].includes(target.type));

  addEventListener('keydown', event => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'p' && S.tab.value === 'images' && S.open.value === '') {
      event.preventDefault();
      R.print();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
    if (document.querySelector('dialog.sheet[open]')) return;
    const opened = S.open.value !== '', arrows = event.key.startsWith('Arrow');
    // Arrows belong to a slider and to a choice that has the focus.
    if (arrows && event.target.tagName === 'INPUT') return;
    const acts = {...anywhere, ...(opened ? inside : outside)};
    if (!opened && S.tab.value !== 'images' && event.key !== '?' && event.key !== 'y') return;
    // Where nothing has the focus, as after opening, the keys of the grid lead into it: the first image, or the last one
    // that was looked at.
    if (!opened && event.target === document.body && ENTER.includes(event.key) && R.order.value.length) {
      event.preventDefault();
      R.grid.focus();
      return;
    }
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  });
})(globalThis.R);
