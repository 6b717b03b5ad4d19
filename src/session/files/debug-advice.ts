/** What to tell people who miss names: whether debug files would help, and how this distribution gives them. */

import { readFileSync } from 'node:fs';

import type { ElfFile } from '../../symbols/elf.ts';
import type { SymbolSources } from '../../symbols/symbol-sources.ts';

/** What /etc/os-release says. */
export interface Distribution {
  /** `debian`, `ubuntu`, `fedora`, … */
  readonly id: string;
  /** What it is like: `rhel fedora`. */
  readonly like: readonly string[];
  /** `bookworm` */
  readonly codename: string | undefined;
}

const SERVERS: Readonly<Record<string, string>> = {
  debian: 'https://debuginfod.debian.net',
  ubuntu: 'https://debuginfod.ubuntu.com',
  fedora: 'https://debuginfod.fedoraproject.org',
  arch: 'https://debuginfod.archlinux.org',
  opensuse: 'https://debuginfod.opensuse.org',
};
const EVERYBODYS_SERVER = 'https://debuginfod.elfutils.org';

/** The distribution that this machine says it has; undefined where it says nothing. */
export function readDistribution(): Distribution | undefined {
  let text: string;
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {
    return undefined; // there need not be one
  }
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}="?([^"\\n]*)"?$`, 'm').exec(text)?.[1];
  return {
    id: field('ID') ?? '',
    like: (field('ID_LIKE') ?? '').split(' ').filter((word) => word !== ''),
    codename: field('VERSION_CODENAME'),
  };
}

/** How debug files are got there, a line each. */
export function waysToDebugFiles(distribution: Distribution | undefined): string[] {
  const names = [distribution?.id ?? '', ...(distribution?.like ?? [])];
  const server = names.map((name) => SERVERS[name]).find((one) => one !== undefined);
  return [
    ...packages(names, distribution?.codename),
    `one file: DEBUGINFOD_URLS=${server ?? EVERYBODYS_SERVER} debuginfod-find debuginfo FILE`,
  ];
}

function packages(names: readonly string[], codename: string | undefined): string[] {
  if (names.includes('ubuntu')) {
    return ['packages NAME-dbgsym: https://ubuntu.com/server/docs/debug-symbol-packages'];
  }
  if (names.includes('debian')) {
    const source = `deb http://deb.debian.org/debian-debug ${codename ?? 'CODENAME'}-debug main`;
    return [`packages NAME-dbgsym (of libc6: libc6-dbg), from the source '${source}'`];
  }
  if (names.includes('fedora')) return ['packages: dnf debuginfo-install NAME'];
  return [];
}

/**
 * What would give a stripped file the names of its local functions; undefined when it has them.
 * @param sources asked for further names already
 */
export function debugFileAdvice(elf: ElfFile, sources: SymbolSources): string | undefined {
  const [problem] = sources.problems;
  if (problem !== undefined) return `A source of names could not be read: ${problem}.`;
  const isComplete = !sources.isStripped || sources.go !== undefined;
  if (isComplete || sources.debugFile !== undefined) return undefined;
  const id = elf.buildId;
  return (
    'The file is stripped, and no debug file of it was found' +
    (id === undefined ? '' : ` (build id ${id})`) +
    '; `trapline doctor` says how to get one. Without names: `trapline list --unnamed FILE`.'
  );
}
