/** Names of C++ and Rust functions in the form in which people write them. */

import { demangleRustLegacy } from './demangle-rust-legacy.ts';
import { demangleRustV0 } from './demangle-rust-v0.ts';
import { withoutParameters } from './signature.ts';

/** Turns mangled names into readable ones; the one for C++ is injected (it needs an FFI). */
export interface Demangler {
  /** The readable form, with parameters; undefined when `name` is not mangled or too strange. */
  demangle(name: string): string | undefined;
}

/** A demangled name in both forms that people write. */
export interface ReadableName {
  /** `ns::Class::method(int) const`, or a Rust path. */
  readonly signature: string;
  /** `ns::Class::method`. */
  readonly path: string;
}

/** Rust's names, in both of its manglings, without hashes and crate disambiguators. */
export const rustDemangler: Demangler = {
  demangle: (name) => demangleRustLegacy(name) ?? demangleRustV0(name),
};

/** Longer names are shown as they are: no person types them, and demanglers grow with the square. */
const MAX_MANGLED = 16_384;

/**
 * The readable forms of a symbol's name.
 * @param itanium for names that begin with `_Z` and are not Rust's.
 * @returns undefined for names that are not mangled.
 */
export function readableName(
  name: string,
  itanium: Demangler | undefined,
): ReadableName | undefined {
  if (!name.startsWith('_') || name.length > MAX_MANGLED) return undefined;
  const rust = rustDemangler.demangle(name);
  if (rust !== undefined) return { signature: rust, path: rust };
  if (!name.startsWith('_Z')) return undefined;
  const signature = itanium?.demangle(name);
  return signature === undefined ? undefined : { signature, path: withoutParameters(signature) };
}
