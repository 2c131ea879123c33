// What the report page uses of other people's libraries, under one global name: V.
export {h, render, Fragment} from 'preact';
export {useEffect, useLayoutEffect, useMemo, useRef, useState} from 'preact/hooks';
export {signal, computed, effect, batch, untracked} from '@preact/signals';
export {Virtualizer, elementScroll, observeElementOffset, observeElementRect} from '@tanstack/virtual-core';
export {default as Panzoom} from '@panzoom/panzoom';
import htm from 'htm';
import {h} from 'preact';
export const html = htm.bind(h);
