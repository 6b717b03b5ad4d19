/** What our own dynamic linker resolved a symbol to. */

import type { Address } from '../base/brand.ts';
import { address } from '../base/brand.ts';
import { bind } from './call.ts';

const RTLD_LAZY = 1;
const RTLD_NOLOAD = 4;

const dlopen: (path: string, flags: number) => bigint | null = bind(
  'void *dlopen(const char *path, int flags)',
);
const dlsym: (handle: bigint, name: string) => bigint | null = bind(
  'void *dlsym(void *handle, const char *name)',
);
const dlvsym: (handle: bigint, name: string, version: string) => bigint | null = bind(
  'void *dlvsym(void *handle, const char *name, const char *version)',
);
const dlclose: (handle: bigint) => number = bind('int dlclose(void *handle)');

/**
 * Where a function of a library that we have loaded ourselves is: for an IFUNC, the implementation that
 * its resolver chose on this machine.
 * @param path of the library, as the dynamic linker knows it
 * @returns undefined when the library isn't loaded here or has no such symbol.
 */
export function resolveOwnSymbol(
  path: string,
  name: string,
  version: string | undefined,
): Address | undefined {
  const handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (handle === null || handle === 0n) return undefined;
  try {
    const found = version === undefined ? dlsym(handle, name) : dlvsym(handle, name, version);
    return found === null || found === 0n ? undefined : address(found);
  } finally {
    dlclose(handle);
  }
}
