// The images: only the rows on screen are there. Arrows move; one stop for the tab key.
(function (R) {
  'use strict';
  const {html, signal, computed, effect, untracked, useEffect, useLayoutEffect, useRef, useState} = V, S = R.state;
  const {Virtualizer, elementScroll, observeElementOffset, observeElementRect} = V;
  const GAP = 10, EDGE = 14, PRINTED = 500;
  R.cursor = signal(0);
  R.printing = signal(false);
  // Whether the images pass faster than can be looked at, in pixels a second.
  R.racing = signal(false);
  const RACE = 4000, REST = 80;
  let last = {top: 0, time: 0}, resting = 0;
  function scrolled(event) {
    const top = event.currentTarget.scrollTop, time = event.timeStamp;
    const speed = Math.abs(top - last.top) / Math.max(1, time - last.time) * 1000;
    last = {top, time};
    if (speed > RACE) R.racing.value = true;
    clearTimeout(resting);
    resting = setTimeout(() => { R.racing.value = false; }, REST);
  }

  // As many columns as fit; each then takes its part of what is left, so that both edges are straight.
  function columns(width, wanted) {
    const room = Math.max(90, width - 2 * EDGE), per = Math.max(1, Math.floor((room + GAP) / (wanted + GAP)));
    const size = Math.floor((room - GAP * (per - 1)) / per);
    return {per, size: per === 1 ? Math.min(size, Math.max(wanted, 320)) : size};
  }

  function Empty() {
    return html`<div class="empty"><p class="big">No image is like this.</p>
      <p class="dim">${R.filters.value.map(of => of.text).join(' · ')}</p>
      <button type="button" onClick=${() => {
        R.clear();
        R.grid.focus();
      }}>Clear the filters</button></div>`;
  }

  R.Grid = () => {
    const box = useRef(), virtual = useRef(), [, again] = useState(0), [width, setWidth] = useState(0);
    const order = R.order.value, {per, size} = columns(width || innerWidth - 340, S.size.value);
    const rows = Math.ceil(order.length / per), step = R.cellHeight(size) + GAP;
    if (!virtual.current) {
      virtual.current = new Virtualizer({
        count: rows, estimateSize: () => step, overscan: 2, paddingStart: EDGE, paddingEnd: EDGE,
        getScrollElement: () => box.current, scrollToFn: elementScroll, observeElementOffset,
        observeElementRect: (one, tell) => observeElementRect(one, rect => {
          setWidth(box.current.clientWidth);
          tell(rect);
        }),
        onChange: () => again(n => n + 1), initialRect: {width: 1000, height: innerHeight},
      });
    }
    const all = virtual.current;
    all.setOptions({...all.options, count: rows, estimateSize: () => step});
    useLayoutEffect(() => all._didMount(), []);
    useLayoutEffect(() => all._willUpdate());
    useLayoutEffect(() => all.measure(), [step]);
    // Another question starts at the top; but a link to an open image starts there.
    const first = useRef(true);
    useEffect(() => {
      if (first.current) {
        first.current = false;
        const at = R.position(R.indexOf(untracked(() => S.open.value)));
        if (at > 0) R.cursor.value = at;
        return;
      }
      R.cursor.value = 0;
      if (box.current) box.current.scrollTop = 0;
    }, [order]);

    R.grid.per = per;
    R.grid.show = at => all.scrollToIndex(Math.floor(at / per), {align: 'auto'});
    const move = event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const page = per * Math.max(1, Math.floor(box.current.clientHeight / step));
      const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: per, ArrowUp: -per, PageDown: page, PageUp: -page,
        Home: -Infinity, End: Infinity}[event.key];
      if (!by || !order.length) return;
      event.preventDefault();
      const to = R.cursor.value + by, last = order.length - 1;
      // Down from the last full row goes to the last image; up from the first row stays.
      R.cursor.value = by === -per && to < 0 ? R.cursor.value : Math.max(0, Math.min(last, to));
      R.grid.focus();
    };
    const lines = all.getVirtualItems().filter(row => row.index < rows);
    return html`<div class="grid" ref=${box} onKeyDown=${move} onScroll=${scrolled} role="group" tabindex="-1" aria-label="Images">
      ${order.length ? html`<div class="rows" style=${{height: `${all.getTotalSize()}px`}}>
        ${lines.map(row => html`<div class="row" key=${row.index} style=${{transform: `translateY(${row.start}px)`, gap: `${GAP}px`,
            padding: `0 ${EDGE}px`}}>
          ${order.slice(row.index * per, row.index * per + per).map((i, k) => html`<${R.Cell} key=${i} i=${i}
            at=${row.index * per + k} size=${size} />`)}</div>`)}</div>` : html`<${Empty} />`}</div>`;
  };
  R.grid = {
    per: 1,
    show() {},
    // The cell of the cursor, once it is there.
    focus(tries = 8) {
      R.grid.show(R.cursor.value);
      requestAnimationFrame(() => {
        const cell = document.querySelector(`.grid [data-at="${R.cursor.value}"]`);
        if (cell) cell.focus({preventScroll: true});
        else if (tries > 0) R.grid.focus(tries - 1);
        else document.querySelector('.grid')?.focus();
      });
    },
  };

  // ---- on paper: everything that is filtered, up to 500, with no gap between rows
  R.Printed = () => {
    const order = R.order.value, shown = order.slice(0, PRINTED), words = R.filters.value.map(of => of.text).join(' · ');
    return html`<main class="printed"><h1>${R.title}</h1>
      <p>${R.counted.value}${words && `: ${words}`}. ${R.views[S.view.value] ? `${R.viewTitle(R.views[S.view.value])}.` : ''}</p>
      ${order.length > PRINTED && html`<p>The first ${PRINTED} of ${order.length.toLocaleString('en')} are printed. Filter the images to
        print others.</p>`}
      <div class="sheet-of-cells">${shown.map((i, at) => html`<${R.Cell} key=${i} i=${i} at=${at} size=${130} still=${true} />`)}</div></main>`;
  };
  // Images that the printer's dialog would not wait for are fetched before it opens.
  R.print = async () => {
    await Promise.allSettled(R.order.value.slice(0, PRINTED).map(R.keep));
    print();
  };
  addEventListener('beforeprint', () => {
    if (document.querySelector('dialog[open]') || S.tab.value !== 'images') return;
    R.order.value.slice(0, PRINTED).forEach(R.keepNow);
    R.printing.value = true;
    R.flush();
  });
  addEventListener('afterprint', () => {
    R.printing.value = false;
    R.letGo();
  });
  R.counted = computed(() => {
    const n = R.order.value.length;
    return n === R.n ? R.count(R.n, 'image') : `${n.toLocaleString('en')} of ${R.count(R.n, 'image')}`;
  });

  // While nothing happens, what would be printed is fetched, where it is few files: the browser's own menu prints at once.
  const FEW = 40;
  let idle = 0;
  effect(() => {
    const order = R.order.value;
    clearTimeout(idle);
    idle = setTimeout(async () => {
      const shown = order.slice(0, PRINTED), chunks = new Set(shown.map(i => Math.floor(i / R.index.chunk)));
      if (chunks.size > FEW) return;
      for (const c of chunks) {
        if (order !== R.order.peek()) return;
        await R.record(c * R.index.chunk).catch(() => null);
      }
    }, 1200);
  });
})(globalThis.R);
