/** C++ names, by the `__cxa_demangle` of whatever libstdc++ is there. */

import koffi from 'koffi';

import { counted } from './call.ts';

type Demangle = (name: string, buffer: null, length: null, status: Uint8Array) => bigint | null;

const PROTOTYPE =
  'void *__cxa_demangle(const char *name, void *buffer, void *length, void *status)';

/** Names longer than this are not demangled: their result can grow exponentially. */
export const MAX_MANGLED_BYTES = 2048;

let found: { demangle: Demangle; free: (pointer: bigint) => void } | undefined | 'nowhere';

function find(): typeof found {
  for (const library of [null, 'libstdc++.so.6', 'libc++abi.so.1']) {
    try {
      // koffi types every function as any: the prototype above says the same.
      const demangle = koffi.load(library).func(PROTOTYPE) as unknown as Demangle;
      // As above.
      const free = koffi.load(null).func('void free(void *pointer)') as unknown as (
        pointer: bigint,
      ) => void;
      return { demangle: counted(demangle), free: counted(free) };
    } catch {
      // This library isn't here, or is another one: the next may have it.
    }
  }
  return 'nowhere';
}

/**
 * The readable form of a C++ name of the Itanium ABI ("_Z…").
 * @returns undefined when it isn't one, is too long, or this system has no demangler.
 */
export function demangleCpp(name: string): string | undefined {
  if (!name.startsWith('_Z') || name.length > MAX_MANGLED_BYTES) return undefined;
  found ??= find();
  if (found === 'nowhere' || found === undefined) return undefined;
  const status = Buffer.alloc(4);
  const text = found.demangle(name, null, null, status);
  if (text === null || text === 0n) return undefined;
  try {
    return koffi.decode.string(text);
  } finally {
    found.free(text);
  }
}
