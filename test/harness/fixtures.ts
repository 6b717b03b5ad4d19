/** Programs for tests: fixtures compiled on demand and kept, and programs that Debian has. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, extname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { findProgram } from './features.ts';

/** What {@link compileFixture} compiles. */
export interface FixtureOptions {
  /** Names in `test/fixtures/`, or absolute paths. */
  readonly sources: readonly string[];
  /** Default: told from the first source's extension. */
  readonly language?: Language;
  /** Replaces the default flags (`-O2 -g -pthread` for C and C++). */
  readonly flags?: readonly string[];
  /** What follows the sources on the command line: `-lsqlite3`. */
  readonly libraries?: readonly string[];
  /** The output's file name; default: the first source's name without its extension. */
  readonly name?: string;
}

/** A language that has a compiler here. Assembly goes through gcc, which preprocesses `.S`. */
export type Language = 'c' | 'c++' | 'go' | 'rust' | 'asm';

interface Compiler {
  readonly program: string;
  readonly versionArgs: readonly string[];
  readonly flags: readonly string[];
}

const compilers: Readonly<Record<Language, Compiler>> = {
  c: { program: 'gcc', versionArgs: ['--version'], flags: ['-O2', '-g', '-pthread'] },
  'c++': { program: 'g++', versionArgs: ['--version'], flags: ['-O2', '-g', '-pthread'] },
  asm: { program: 'gcc', versionArgs: ['--version'], flags: [] },
  go: { program: 'go', versionArgs: ['version'], flags: ['build'] },
  rust: { program: 'rustc', versionArgs: ['--version'], flags: ['-O', '-g'] },
};

const extensions: Readonly<Record<string, Language>> = {
  '.c': 'c',
  '.cc': 'c++',
  '.cpp': 'c++',
  '.s': 'asm',
  '.S': 'asm',
  '.go': 'go',
  '.rs': 'rust',
};

/** `test/fixtures/`: the compiled harness lies three folders below the root, in any out folder. */
const fixtureFolder = fileURLToPath(new URL('../../../test/fixtures/', import.meta.url));

/** The path of a fixture that is not compiled: a script. */
export function fixturePath(name: string): string {
  return join(fixtureFolder, name);
}

const versions = new Map<Language, string>();

/**
 * Compiles a fixture unless it is kept already, and returns the program's absolute path. Kept under
 * a hash of sources, headers, flags and the compiler's version; safe against others that compile
 * the same at the same time, since a result appears by one rename.
 * @throws Error with the compiler's own words when it refuses, or when it isn't there.
 */
export function compileFixture(options: FixtureOptions): string {
  const sources = options.sources.map((name) =>
    isAbsolute(name) ? name : join(fixtureFolder, name),
  );
  const first = sources[0];
  if (first === undefined) throw new RangeError('a fixture needs a source');
  const language = options.language ?? extensions[extname(first)];
  if (language === undefined) throw new RangeError(`which language is ${first}?`);
  const compiler = compilers[language];
  const flags = options.flags ?? compiler.flags;
  const libraries = options.libraries ?? [];
  const name = options.name ?? basename(first, extname(first));
  const key = hash([
    language,
    versionOf(language),
    JSON.stringify([flags, libraries, name]),
    ...contents(sources),
  ]);
  const cache = cacheFolder();
  const kept = join(cache, key);
  if (!existsSync(join(kept, name))) {
    const work = mkdtempSync(join(cache, 'compile-'));
    const build = language === 'go' && flags[0] !== 'build' ? ['build', ...flags] : flags;
    try {
      run(compiler.program, [...build, '-o', join(work, name), ...sources, ...libraries], cache);
      publish(work, kept);
    } finally {
      rmSync(work, { recursive: true, force: true }); // gone already unless something failed
    }
  }
  return join(kept, name);
}

/**
 * The path of a program that the system has.
 * @throws Error when it is not in PATH. Tests ask {@link findProgram} or a feature first, and skip.
 */
export function requireProgram(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not in PATH (apt-get install ${name})`);
  return path;
}

function versionOf(language: Language): string {
  const kept = versions.get(language);
  if (kept !== undefined) return kept;
  const { program, versionArgs } = compilers[language];
  const version = run(program, versionArgs, tmpdir());
  versions.set(language, version);
  return version;
}

function contents(sources: readonly string[]): string[] {
  const headers = readdirSync(fixtureFolder)
    .filter((name) => name.endsWith('.h'))
    .toSorted()
    .map((name) => join(fixtureFolder, name));
  return [...sources, ...headers].map((path) => `${basename(path)}\n${readFileSync(path, 'utf8')}`);
}

/** `TRAPLINE_FIXTURE_CACHE`, or a folder of this user's own in the temporary folder. */
function cacheFolder(): string {
  const uid = process.getuid?.() ?? 0;
  const path = process.env['TRAPLINE_FIXTURE_CACHE'] ?? join(tmpdir(), `trapline-fixtures-${uid}`);
  mkdirSync(path, { recursive: true, mode: 0o755 });
  if (lstatSync(path).uid !== uid) {
    throw new Error(
      `${path} belongs to somebody else: set TRAPLINE_FIXTURE_CACHE to another folder`,
    );
  }
  return path;
}

function publish(work: string, kept: string): void {
  try {
    renameSync(work, kept);
  } catch (error) {
    if (!existsSync(kept)) throw error; // somebody else was first: theirs is the same
  }
}

function run(program: string, args: readonly string[], cache: string): string {
  const env = { ...process.env, GO111MODULE: 'off', GOCACHE: join(cache, 'go-build') };
  const result = spawnSync(program, args, { encoding: 'utf8', env });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(`${program} ${args.join(' ')}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

function hash(parts: readonly string[]): string {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(`${Buffer.byteLength(part)}\n`).update(part);
  return digest.digest('hex').slice(0, 24);
}
