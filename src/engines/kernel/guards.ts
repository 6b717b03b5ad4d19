/**
 * Pointers on the way to a value. Where one can't be read the kernel leaves in its buffer what an earlier event
 * had there (process_fetch_insn_bottom, kernel/trace/trace_probe_tmpl.h), so each is fetched, too: as a value of
 * its own it is 0 then, or, at the end of what can be read, its first bytes with zeros behind.
 */

import { unreachable } from '../../base/errors.ts';
import { printFetch } from '../../probe/fetch.ts';
import type { FilterTree, ProgramFilter } from '../../probe/filter.ts';
import type { Fetch, ProgramArgument } from '../../probe/program.ts';

/** One pointer on the way to a value. */
export interface Guard {
  /** The argument that holds it. */
  readonly pointer: ProgramArgument;
  /** The one from which its own address is counted; undefined where that is a constant. */
  readonly base: ProgramArgument | undefined;
  /** What is added to that; modulo a page where there is none. */
  readonly offset: bigint;
}

/** The pointers of a definition, each fetched once. */
export class GuardPlan {
  /** Arguments that are fetched for the guards only. */
  readonly fetched: ProgramArgument[] = [];
  readonly #free: (name: string) => string;
  readonly #known = new Map<string, ProgramArgument>();

  /** @param free makes a name that nobody took */
  constructor(free: (name: string) => string) {
    this.#free = free;
  }

  /** The pointers on the way to what a fetch gives, the first one first. */
  guard(fetch: Fetch): Guard[] {
    if (fetch.kind !== 'load' || fetch.base.kind !== 'load') return [];
    const before = this.guard(fetch.base);
    const { base, offset } = fetch.base;
    const start = this.#base(base);
    const pointer = this.#fetch(fetch.base, 'via');
    return [...before, { pointer, base: start, offset: offset + constantOf(base) }];
  }

  #base(base: Fetch): ProgramArgument | undefined {
    if (base.kind === 'immediate' || base.kind === 'file') return undefined;
    return this.#fetch(base, base.kind === 'load' ? 'via' : 'base');
  }

  #fetch(fetch: Fetch, name: string): ProgramArgument {
    const key = printFetch(fetch);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const made = {
      name: this.#free(`trapline_${name}${this.#known.size + 1}`),
      type: 'x64',
      fetch,
    } as const; // the type's name
    this.#known.set(key, made);
    this.fetched.push(made);
    return made;
  }
}

/** A file is mapped by whole pages: within one, an offset of it is as good as an address. */
function constantOf(base: Fetch): bigint {
  if (base.kind === 'immediate') return base.value;
  return base.kind === 'file' ? base.offset : 0n;
}

/** A filter whose terms hold only where the pointers on the way to their values could be read. */
export function guardFilter(
  filter: ProgramFilter,
  guardsOf: (name: string) => readonly Guard[],
): ProgramFilter {
  if (filter.kind === 'tasks') return filter;
  if (filter.kind !== 'both') return guardTree(filter, guardsOf);
  return { ...filter, filters: filter.filters.map((part) => guardFilter(part, guardsOf)) };
}

function guardTree(tree: FilterTree, guardsOf: (name: string) => readonly Guard[]): FilterTree {
  switch (tree.kind) {
    case 'all':
    case 'any':
      return { ...tree, terms: tree.terms.map((term) => guardTree(term, guardsOf)) };
    case 'not':
      return { ...tree, term: guardTree(tree.term, guardsOf) };
    case 'compare':
    case 'match': {
      const guards = tree.value.kind === 'argument' ? guardsOf(tree.value.argument.name) : [];
      if (guards.length === 0) return tree;
      const terms = guards.map(({ pointer }): FilterTree => ({
        kind: 'compare',
        value: { kind: 'argument', argument: pointer },
        operator: '!=',
        operand: 0n,
      }));
      return { kind: 'all', terms: [...terms, tree] };
    }
    default:
      return unreachable(tree);
  }
}
