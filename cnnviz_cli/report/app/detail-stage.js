// The pictures of the dialog: the photograph under the evidence, one or two at a time, and the number under the pointer.
(function (R) {
  'use strict';
  const {html, signal, useEffect, useLayoutEffect, useRef, useState, Panzoom} = V;

  const GAP = 12;  // CSS pixels between two panes
  const SHARP = 4;  // from so many CSS pixels a pixel of the photograph on, pixels are squares, as in the figures
  const CLOSEST = 40;  // CSS pixels a pixel of the photograph at the highest zoom
  const MUDDY = 5;  // a thumbnail is enlarged no further
  const BLINK = 700;  // milliseconds

  const pointer = signal(null);  // {x, y} in pixels of the upright photograph, {pane} the one it is over
  const zoomed = signal(1);
  R.pointer = pointer;
  const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

  // The greys of cnnviz_cli.render.canvas: under strong evidence, and of what the network never saw.
  const LUMA = '.299 .587 .114';
  const grey = (by, plus) => Array(3).fill(LUMA.split(' ').map(c => (c * by).toFixed(6)).join(' ') + ` 0 ${plus}`).join(' ') + ' 0 0 0 1 0';
  const channel = (table, c) => Array.from({length: table.length / 3}, (_, k) => (table[3 * k + c] / 255).toFixed(4)).join(' ');
  const Coloured = ({name}) => html`<filter id=${`colours-${name}`} color-interpolation-filters=sRGB><feComponentTransfer>
    ${['feFuncR', 'feFuncG', 'feFuncB'].map((tag, c) => V.h(tag, {type: 'table', tableValues: channel(R.palettes[name], c)}))}</feComponentTransfer></filter>`;
  // Palettes for grey pictures on the disk, of which a page may read no pixel.
  const Filters = ({maps}) => html`<svg class=filters width=0 height=0 aria-hidden=true focusable=false><defs>
    <filter id=sunk color-interpolation-filters=sRGB><feColorMatrix values=${grey(0.6, 0)} /></filter>
    <filter id=faded color-interpolation-filters=sRGB><feColorMatrix values=${grey(0.28, (172 / 255).toFixed(4))} /></filter>
    ${[...new Set(maps.filter(map => map && R.fileOf(map)).map(map => R.paletteOf(R.views[map.view])))].map(name => html`<${Coloured} key=${name} name=${name} />`)}</defs></svg>`;

  const css = box => ({left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px`});
  const isWhole = (box, [w, h]) => box[0] < 0.5 && box[1] < 0.5 && box[2] > w - 0.5 && box[3] > h - 0.5;

  // A photograph of w x h CSS pixels with a map over it, as the figures have it; map null: the photograph alone.
  function Evidence({url, size, shown, map, scale, alt}) {
    const canvas = useRef(), [mask, setMask] = useState(''), [, read] = useState(0), [w, h] = shown, {overlay, opacity} = R.state;
    const drawn = overlay.value && R.drawable(map);
    const file = drawn && R.fileOf(map), palette = map && R.paletteOf(R.views[map.view]), seen = map && map.box;
    const place = seen && R.window(seen, size, w, h), at = place && {size, shown, ...place};
    useEffect(() => {
      let live = true;
      if (drawn && !R.numbersOf(map)) R.numbers(map).then(() => live && read(n => n + 1));
      return () => { live = false; };
    }, [drawn, map]);
    useLayoutEffect(() => { if (drawn && !file) R.paint(canvas.current, map, {palette, opacity: opacity.value, scale, at}); });
    useLayoutEffect(() => setMask(drawn && !file ? R.drain(map, place.width, place.height, {scale, at}) : ''), [drawn, map, w, h, String(scale)]);
    const hole = place && `polygon(evenodd,0 0,100% 0,100% 100%,0 100%,0 0,${[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
      .map(([x, y]) => `${place.left + x * place.width}px ${place.top + y * place.height}px`).join(',')})`;
    const again = {position: 'absolute', width: `${w}px`, height: `${h}px`};
    return html`<span class=evidence style=${{width: `${w}px`, height: `${h}px`}}>
      <img class=photo src=${url} width=${w} height=${h} alt=${alt} decoding=async draggable=false />
      ${drawn && mask && html`<span class=drained style=${{...css(place), maskImage: `url(${mask})`, WebkitMaskImage: `url(${mask})`}}>
        <img src=${url} alt="" draggable=false style=${{...again, left: `${-place.left}px`, top: `${-place.top}px`}} /></span>`}
      ${drawn && (file
        ? html`<img class=coloured src=${file} alt="" draggable=false style=${{...css(place), filter: `url(#colours-${palette})`, opacity: Math.min(1, opacity.value / 0.75)}} />`
        : html`<canvas ref=${canvas} width=${place.width} height=${place.height} style=${css(place)} aria-hidden=true></canvas>`)}
      ${seen && overlay.value && !isWhole(seen, size) && html`<span class=unseen style=${{clipPath: hole}}><img src=${url} alt="" draggable=false style=${again} /></span>
        <span class=frame style=${css(place)}></span>`}
    </span>`;
  }

  // Where the other pane's pointer is.
  const Cross = ({size, pane}) => {
    const at = pointer.value;
    return at && at.pane !== pane && html`<span class=cross style=${{left: `${100 * at.x / size[0]}%`, top: `${100 * at.y / size[1]}%`, transform: `scale(${1 / zoomed.value})`}}></span>`;
  };

  function Readout({maps, size}) {
    const at = pointer.value;
    if (!at) return html`<p class=readout><span class=hint>${maps.some(R.drawable) ? 'Point at the image to read the map’s values.' : ''}</span></p>`;
    const inside = at.x >= 0 && at.y >= 0 && at.x < size[0] && at.y < size[1];
    const said = maps.map((map, k) => [maps.length > 1 ? 'AB'[k] : '', R.valueAt(map, at.x, at.y)]);
    const seen = maps.find(Boolean)?.box, within = seen && at.x >= seen[0] && at.y >= seen[1] && at.x < seen[2] && at.y < seen[3];
    return html`<p class=readout>${inside && html`<span>x ${Math.floor(at.x)}, y ${Math.floor(at.y)}</span>`}
      ${inside && !within && seen && html`<span>the network did not see this</span>`}
      ${inside && within && said.map(([letter, value]) => value && html`<span>${letter && html`<i>${letter}</i> `}<b>${value.text}</b> ${value.exact && html`<span class=dim>cell ${value.x}, ${value.y}</span>`}</span>`)}</p>`;
  }

  const caption = (letter, map) => html`<span class=chip>${letter && html`<i>${letter}</i>`}${R.titleOf(map)}${map && map.state !== 'ok' ? ` · ${map.state}` : ''}</span>`;

  // A figure as it was drawn, where the page has no photograph or no numbers to draw it anew.
  const Figure = ({map, alt}) => html`<img class=figure src=${map.figure} alt=${alt} draggable=false />`;

  R.Stage = ({i, record, a, b}) => {
    const stage = useRef(), zoom = useRef(null), [room, setRoom] = useState(null), [split, setSplit] = useState(50), [second, flip] = useState(false);
    const mode = R.state.mode.value, size = record.size || [R.index.side, R.index.side], url = R.photoUrl(i, record), two = mode !== 'one';
    useLayoutEffect(() => {
      const watch = new ResizeObserver(([entry]) => setRoom([Math.floor(entry.contentRect.width), Math.floor(entry.contentRect.height)]));
      watch.observe(stage.current);
      return () => watch.disconnect();
    }, []);
    const fit = (across, down) => (room ? Math.min((room[0] - GAP * (across - 1)) / across / size[0], (room[1] - GAP * (down - 1)) / down / size[1]) : 0);
    const beside = mode === 'side' && fit(2, 1) >= fit(1, 2), side = mode === 'side';
    const limit = record.photo ? Infinity : MUDDY * R.index.side / Math.max(...size);
    const k = Math.min(side ? Math.max(fit(2, 1), fit(1, 2)) : fit(1, 1), limit);
    const shown = [Math.max(1, Math.round(size[0] * k)), Math.max(1, Math.round(size[1] * k))];
    const beneath = side && !beside;
    // Whole pixels everywhere: half of one would blur all of them.
    const area = room && [Math.floor(beside ? (room[0] - GAP) / 2 : room[0]), Math.floor(beneath ? (room[1] - GAP) / 2 : room[1])];
    const corner = area && {left: `${Math.floor((area[0] - shown[0]) / 2)}px`, top: `${Math.floor((area[1] - shown[1]) / 2)}px`};
    const ready = Boolean(room && (url || R.asFigure(record, a)));

    // One zoom moves every pane: what is compared stays in the same place.
    useEffect(() => {
      if (!ready) return undefined;
      const root = stage.current, first = root.querySelector('.zoomed');
      if (!first) return undefined;
      const apply = (_, {scale, x, y}) => {
        for (const pane of root.querySelectorAll('.zoomed')) pane.style.transform = `scale(${scale}) translate(${x}px, ${y}px)`;
        root.classList.toggle('sharp', scale * k * (window.devicePixelRatio || 1) >= SHARP && Boolean(record.photo));
        zoomed.value = scale;
      };
      const hands = Panzoom(first, {noBind: true, animate: false, minScale: 1, maxScale: Math.max(8, CLOSEST / k), panOnlyWhenZoomed: true, cursor: '', overflow: '', setTransform: apply});
      zoom.current = hands;
      // Every pane speaks for the first: a place in it is the same place there. The library takes the picture to begin
      // at its pane's corner; ours are in the middle.
      const moved = event => {
        const to = first.closest('.pane').getBoundingClientRect(), from = (event.target.closest('.pane') || first).getBoundingClientRect();
        return {clientX: event.clientX - from.left + to.left - first.offsetLeft, clientY: event.clientY - from.top + to.top - first.offsetTop};
      };
      const scaled = (to, point) => {
        if (to <= 1.001) hands.reset({animate: false, force: true});
        else if (point) hands.zoomToPoint(to, point, {animate: false});
        else hands.zoom(to, {animate: false});
      };
      R.detail.zoom = by => scaled(by ? hands.getScale() * by : 1);
      const wheel = event => { event.preventDefault(); scaled(hands.getScale() * Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 250), moved(event)); };
      const down = event => { if (event.target.closest('.pane')) hands.handleDown(event); };
      const twice = event => { if (event.target.closest('.pane')) scaled(hands.getScale() > 1.001 ? 1 : Math.max(2, 1 / k), moved(event)); };
      const move = event => hands.handleMove(event), up = event => hands.handleUp(event);
      root.addEventListener('wheel', wheel, {passive: false});
      root.addEventListener('pointerdown', down);
      root.addEventListener('dblclick', twice);
      document.addEventListener('pointermove', move, {passive: true});
      document.addEventListener('pointerup', up, {passive: true});
      document.addEventListener('pointercancel', up, {passive: true});
      apply(first, {scale: 1, x: 0, y: 0});
      return () => {
        root.removeEventListener('wheel', wheel);
        root.removeEventListener('pointerdown', down);
        root.removeEventListener('dblclick', twice);
        for (const [name, hand] of [['pointermove', move], ['pointerup', up], ['pointercancel', up]]) document.removeEventListener(name, hand);
        R.detail.zoom = () => {};
        zoom.current = null;
      };
    }, [i, ready, mode, shown[0], shown[1]]);

    useEffect(() => {
      R.detail.flip = () => flip(on => !on);
      if (mode !== 'blink' || still()) return undefined;
      const timer = setInterval(() => flip(on => !on), BLINK);
      return () => clearInterval(timer);
    }, [mode]);
    useEffect(() => { flip(false); pointer.value = null; }, [i, mode]);

    const read = pane => event => {
      const content = event.currentTarget.querySelector('.zoomed').getBoundingClientRect();
      pointer.value = {pane, x: (event.clientX - content.left) / content.width * size[0], y: (event.clientY - content.top) / content.height * size[1]};
    };
    const scale = R.scaleFor(a, two ? b : null);
    const layer = (map, pane, style) => {
      const alt = `${R.source(i)}, ${R.titleOf(map)}`;
      if (R.asFigure(record, map)) return html`<div class=layer style=${style}><div class="zoomed whole"><${Figure} map=${map} alt=${alt} /></div></div>`;
      return html`<div class=layer style=${style}><div class=zoomed style=${{...corner, width: `${shown[0]}px`, height: `${shown[1]}px`}}>
        <${Evidence} url=${url} size=${size} shown=${shown} map=${record.drawn ? null : map} scale=${scale(map)} alt=${alt} /><${Cross} size=${size} pane=${pane} /></div></div>`;
    };
    const pane = (name, content, captions) => html`<div class=pane key=${name} style=${{width: `${area[0]}px`, height: `${area[1]}px`}} onPointerMove=${read(name)} onPointerDown=${read(name)} onPointerLeave=${() => { pointer.value = null; }}>${content}${captions}</div>`;
    const drag = event => {
      if (event.type === 'pointerdown') event.currentTarget.setPointerCapture(event.pointerId);
      else if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
      const box = event.currentTarget.parentElement.getBoundingClientRect();
      event.stopPropagation();
      setSplit(Math.round(Math.max(0, Math.min(100, 100 * (event.clientX - box.left) / box.width)) * 10) / 10);
    };
    let panes = null;
    if (ready && side) panes = [pane('a', layer(a, 'a'), caption('A', a)), pane('b', layer(b, 'b'), caption('B', b))];
    else if (ready && mode === 'slider') {
      panes = pane('a', [layer(a, 'a', {clipPath: `inset(0 ${100 - split}% 0 0)`}), layer(b, 'a', {clipPath: `inset(0 0 0 ${split}%)`}),
        html`<span class=divide style=${{left: `${split}%`}} onPointerDown=${drag} onPointerMove=${drag}></span>`],
      [caption('A', a), html`<span class="chip right-chip"><i>B</i>${R.titleOf(b)}</span>`]);
    } else if (ready && mode === 'blink') {
      panes = pane('a', [layer(a, 'a', {visibility: second ? 'hidden' : 'visible'}), layer(b, 'a', {visibility: second ? 'visible' : 'hidden'})], second ? caption('B', b) : caption('A', a));
    } else if (ready) panes = pane('a', layer(a, 'a'), R.asFigure(record, a) ? null : caption('', a));
    const plain = R.asFigure(record, a), percent = Math.round(100 * (plain ? 1 : k) * zoomed.value);
    return html`<${Filters} maps=${[a, b]} /><div class=stage>
      <div class="panes ${beneath ? 'stacked' : ''}" ref=${stage}>${url || R.asFigure(record, a) ? panes : html`<p class=nothing>There is no image to show.</p>`}</div>
      <div class=under>${plain ? html`<p class=readout></p>` : html`<${Readout} maps=${two ? [a, b] : [a]} size=${size} />`}
        ${mode === 'slider' && html`<input class=split type=range min=0 max=100 step=1 value=${split} onInput=${e => setSplit(Number(e.target.value))} aria-label="Where A ends and B begins" />`}
        ${mode === 'blink' && html`<button type=button onClick=${() => R.detail.flip()}>${second ? 'Show A' : 'Show B'} <kbd>b</kbd></button>`}
        <span class=zooms role=group aria-label=Zoom><button type=button aria-label="Smaller" onClick=${() => R.detail.zoom(1 / 1.4)}>−</button>
          <button type=button class=percent aria-label="${percent} % of its size; fit it again" onClick=${() => R.detail.zoom(0)}>${percent} %</button>
          <button type=button aria-label="Larger" onClick=${() => R.detail.zoom(1.4)}>+</button></span></div></div>`;
  };
}(globalThis.R = globalThis.R || {}));
