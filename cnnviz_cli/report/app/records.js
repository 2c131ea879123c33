// Records: chunks of 50, fetched when one of them is looked at, the last 300 chunks held.
(function (R) {
  'use strict';
  const {useEffect, useState} = V;
  const HELD = 300, size = R.index.chunk, folder = R.index.folder ?? 'report-data';
  const held = new Map(), kept = new Map(), waiting = new Map(), missing = new Set();

  // What is usual of a map is left out of the data.
  function fill(record, i) {
    for (const said of record.runs) for (const one of said?.predictions ?? []) one[3] ??= R.label(one[0]);
    for (const map of record.maps) {
      const {run, command} = R.views[map.view], said = record.runs[run], file = map.file && `${said.folder}/${map.file}`;
      map.title ??= map.target === null ? '' : R.label(map.target);
      map.range ??= map.scale;
      map.state ??= 'ok';
      map.sentence ??= null;
      map.figure ??= file ?? null;
      map.box ??= record.seen;
      map.measures ??= {};
      map.data ??= '';
      map.small ??= '';
      map.image ??= null;
      map.shape ??= null;
      const words = command && map.asked !== null ? [command[0], said.quoted ?? R.source(i), command[1], map.asked] : [];
      map.command ??= words.filter(Boolean).join(' ');
    }
  }

  // What each file of data calls: the records, and packed what the manifests say of them.
  R.chunk = (c, records, packed = document.getElementById(`packed-${c}`)?.textContent) => {
    missing.delete(c);
    records.forEach((record, k) => fill(record, c * size + k));
    records.packed = packed;
    held.set(c, records);
    if (held.size > HELD) held.delete(held.keys().next().value);
    const calls = waiting.get(c) ?? [];
    waiting.delete(c);
    for (const [done] of calls) done(records);
  };

  function giveUp(c) {
    missing.add(c);
    const calls = waiting.get(c) ?? [];
    waiting.delete(c);
    for (const [, fail] of calls) fail(new Error(`The data of the records from ${c * size + 1} on are not there.`));
  }

  function chunk(c) {
    if (held.has(c)) {
      const records = held.get(c);
      held.delete(c);
      held.set(c, records);
      return Promise.resolve(records);
    }
    return new Promise((done, fail) => {
      if (waiting.has(c)) {
        waiting.get(c).push([done, fail]);
        return;
      }
      waiting.set(c, [[done, fail]]);
      const inline = document.getElementById(`chunk-${c}`);
      if (inline) {
        queueMicrotask(() => R.chunk(c, JSON.parse(inline.textContent)));
        return;
      }
      const tag = document.createElement('script');
      tag.src = `${folder}/chunk-${String(c).padStart(5, '0')}.js`;
      tag.onload = () => {
        tag.remove();
        if (waiting.has(c)) giveUp(c);
      };
      tag.onerror = () => {
        tag.remove();
        giveUp(c);
      };
      document.head.append(tag);
    });
  }

  R.record = i => chunk(Math.floor(i / size)).then(records => records[i % size]);
  // What the manifest of each run says of a record, null where it has none or the page does not hold it.
  R.manifestRecords = i => chunk(Math.floor(i / size)).then(async records => {
    const plain = new Blob([R.bytes(records.packed)]).stream().pipeThrough(new DecompressionStream('deflate'));
    return JSON.parse(await new Response(plain).text())[i % size];
  });
  R.held = i => kept.get(i) ?? held.get(Math.floor(i / size))?.[i % size];
  // What is printed stays, however many chunks it is from. In a single file it is there without waiting.
  R.keep = i => R.record(i).then(record => kept.set(i, record));
  R.keepNow = i => {
    const c = Math.floor(i / size), inline = R.held(i) ? null : document.getElementById(`chunk-${c}`);
    if (inline) R.chunk(c, JSON.parse(inline.textContent));
    if (R.held(i)) kept.set(i, R.held(i));
  };
  R.letGo = () => kept.clear();
  R.useRecord = i => {
    const [, again] = useState(0), at = R.held(i);
    useEffect(() => {
      if (at || i < 0) return undefined;
      let live = true;
      const tell = () => live && again(n => n + 1);
      R.record(i).then(tell, tell);
      return () => { live = false; };
    }, [i, !at]);
    return at;
  };
  R.useRecord.failed = i => missing.has(Math.floor(i / size));

  // What a map explains, as the address says it: what the network says, what is true, or class 12, which was asked for.
  R.roleOf = map => (map.role === 'asked' && map.target !== null ? `asked.${map.target}` : map.role);
  R.plays = (map, role) => R.roleOf(map) === role || (map.role === 'both' && (role === 'says' || role === 'true'));
  // The map of a record for a view, of the class that is asked for, or else of any.
  R.mapOf = (record, view = R.state.view.value, role = R.state.role.value) => {
    const maps = record?.maps.filter(map => map.view === view) ?? [];
    return maps.find(map => R.plays(map, role)) ?? maps[0] ?? null;
  };
  R.thumbUrl = record => (record?.thumb ? `data:image/webp;base64,${record.thumb}` : '');
  R.photoUrl = (i, record) => record?.photo || R.thumbUrl(record);
  // The scale that a map is drawn on: its own, or the one that all maps of its view share.
  R.scaleOf = map => {
    const shared = map && R.views[map.view]?.shared;
    return R.state.scale.value === 'shared' && shared ? shared : null;
  };
})(globalThis.R);
