/** Node's zlib, loaded when it is needed: that takes 2 ms, and hardly any session needs it. */

import type * as Zlib from 'node:zlib';

/** The module. Loading it again costs nothing. */
export function zlib(): typeof Zlib {
  return process.getBuiltinModule('node:zlib');
}
