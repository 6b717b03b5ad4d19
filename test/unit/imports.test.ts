/** Which folder may import which, held against the code; and how large a file may be. */

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));

interface Rule {
  /** A folder below the root, or one file. */
  readonly folder: string;
  /** The last column of the table in docs/architecture.md, word for word. */
  readonly text: string;
  readonly mayImport: readonly string[];
  /** Folders of which it may import types alone. */
  readonly typesOf?: readonly string[];
}

const machine = ['src/base', 'src/x64', 'src/symbols', 'src/events', 'src/sys', 'src/process'];
const engines = [...machine, 'src/probe'];
const most = [...engines, 'src/engines/jump', 'src/engines/kernel'];

const rules: readonly Rule[] = [
  { folder: 'src/base', text: '–', mayImport: [] },
  { folder: 'src/x64', text: 'base', mayImport: ['src/base'] },
  { folder: 'src/symbols', text: 'base', mayImport: ['src/base'] },
  { folder: 'src/events', text: 'base', mayImport: ['src/base'] },
  { folder: 'src/sys', text: 'base', mayImport: ['src/base'] },
  {
    folder: 'src/process',
    text: 'base, x64, sys',
    mayImport: ['src/base', 'src/x64', 'src/sys'],
  },
  {
    folder: 'src/probe',
    text: 'base, symbols, events',
    mayImport: ['src/base', 'src/symbols', 'src/events'],
  },
  { folder: 'src/engines/jump', text: 'all above', mayImport: engines },
  {
    folder: 'src/engines/kernel',
    text: 'base, x64, events, sys, probe',
    mayImport: ['src/base', 'src/x64', 'src/events', 'src/sys', 'src/probe'],
  },
  { folder: 'src/exporters', text: 'base, events', mayImport: ['src/base', 'src/events'] },
  { folder: 'src/session', text: 'all but exporters', mayImport: most },
  {
    folder: 'src/index.ts',
    text: 'session; errors of base, constants of events; types of the above',
    mayImport: ['src/session', 'src/base', 'src/events'],
    typesOf: [...most, 'src/exporters'],
  },
  { folder: 'src/screen', text: 'base', mayImport: ['src/base'] },
  {
    folder: 'src/cli',
    text: 'index, exporters, screen, base',
    mayImport: ['src/index.ts', 'src/exporters', 'src/screen', 'src/base'],
  },
];

/** Packages that one folder has to itself. */
const packages: Readonly<Record<string, string>> = {
  koffi: 'src/sys',
  'iced-x86': 'src/x64',
  commander: 'src/cli',
  picocolors: 'src/screen',
  fzstd: 'src/symbols',
};

/** Source files above the cap of 300 lines (blank ones not counted), with the reason. */
const longFiles: Readonly<Record<string, string>> = {};

/*
 * ---- Debts: imports against the table that are to go. Each: `FILE -> FOLDER: reason`. ----
 */
const debts: readonly string[] = [];

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => `src/${name}`)
  .toSorted();

test('every source file lies in a folder of the table', () => {
  assert.ok(sources.length > 0);
  assert.deepEqual(
    sources.filter((file) => ruleOf(file) === undefined),
    [],
  );
});

test('imports follow the table, but for the debts', () => {
  const found = new Set<string>();
  for (const one of sources.flatMap(importsOf)) {
    const wrong = against(one);
    if (wrong !== undefined) found.add(wrong);
  }
  const owed = new Set(debts.map((debt) => debt.replace(/:.*$/, '')));
  assert.deepEqual(
    [...found].filter((wrong) => !owed.has(wrong)),
    [],
    'imports against the table',
  );
  assert.deepEqual(
    [...owed].filter((debt) => !found.has(debt)),
    [],
    'debts that are paid',
  );
});

test('a package belongs to one folder', () => {
  const wrong = sources
    .flatMap(importsOf)
    .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
    .filter(({ file, specifier }) => packages[packageOf(specifier)] !== ruleOf(file)?.folder)
    .map(({ file, specifier }) => `${file}: ${specifier}`);
  assert.deepEqual(wrong, []);
});

test('every dependency has its folder, and no other', () => {
  const text = readFileSync(join(root, 'package.json'), 'utf8');
  const manifest: unknown = JSON.parse(text);
  assert.ok(typeof manifest === 'object' && manifest !== null);
  const dependencies: unknown = Reflect.get(manifest, 'dependencies');
  assert.ok(typeof dependencies === 'object' && dependencies !== null);
  assert.deepEqual(Object.keys(dependencies).toSorted(), Object.keys(packages).toSorted());
});

test('docs/architecture.md has the same table', () => {
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const table = [...text.matchAll(/^\| `(src\/[^`]*)` \|.*\| ([^|]*) \|$/gm)].map((row) => [
    row[1]?.replace(/\/$/, ''),
    row[2],
  ]);
  assert.deepEqual(
    table,
    rules.map(({ folder, text: words }) => [folder, words]),
  );
});

test('no source file is longer than 300 lines, but for the list', () => {
  const long = sources
    .map((file) => ({
      file,
      count: read(file)
        .split('\n')
        .filter((line) => line.trim() !== '').length,
    }))
    .filter(({ count }) => count > 300);
  assert.deepEqual(
    long.filter(({ file }) => longFiles[file] === undefined),
    [],
  );
  const names = new Set(long.map(({ file }) => file));
  assert.deepEqual(
    Object.keys(longFiles).filter((file) => !names.has(file)),
    [],
    'exceptions that are not needed',
  );
});

test('the search for imports sees every form, and none in comments or texts', () => {
  const text = `
    import a from './a.ts';
    import type { B } from '../b/b.ts';
    import {
      c, // './no.ts'
    } from "./c.ts";
    export * from './d.ts';
    export type { E } from './e.ts';
    import './f.ts';
    const g = await import('./g.ts');
    new Worker(new URL('./h.ts', import.meta.url));
    type I = import('./i.ts').I;
    /* import './no.ts'; */ // import './no.ts';
    const s = "import './no.ts'";
  `;
  assert.deepEqual(
    findImports(text).map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? ' type' : ''}`),
    [
      './a.ts',
      '../b/b.ts type',
      './c.ts',
      './d.ts',
      './e.ts type',
      './f.ts',
      './g.ts',
      './h.ts',
      './i.ts',
    ],
  );
});

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

function ruleOf(file: string): Rule | undefined {
  return rules.find(({ folder }) => file === folder || file.startsWith(`${folder}/`));
}

function importsOf(file: string): Import[] {
  return findImports(read(file)).map((one) => ({ file, ...one }));
}

function packageOf(specifier: string): string {
  const parts = specifier.split('/');
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}

/** `FILE -> FOLDER` when the table forbids the import. */
function against({ file, specifier, typeOnly }: Import): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  const to = relative('.', normalize(join(dirname(file), specifier)));
  const from = ruleOf(file);
  const target = ruleOf(to);
  if (from === undefined || target === undefined) return `${file} -> ${to}`;
  if (from === target || from.mayImport.includes(target.folder)) return undefined;
  if (typeOnly && from.typesOf?.includes(target.folder) === true) return undefined;
  return `${file} -> ${target.folder}`;
}

/**
 * Import specifiers in a source text. Comments and texts are taken out first (a text becomes its index
 * between section signs), so that what stands in them is not seen.
 */
function findImports(text: string): { specifier: string; typeOnly: boolean }[] {
  const texts: string[] = [];
  const bare = text.replace(
    /\/\*[\s\S]*?\*\/|\/\/.*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g,
    (token) => {
      if (token.startsWith('/')) return ' ';
      return `§${texts.push(token.slice(1, -1)) - 1}§`;
    },
  );
  const form =
    /\b(?:(import|export)(\s+type\b)?(?:[^;§()]*?\bfrom)?\s*§(\d+)§|import\s*\(\s*§(\d+)§|new\s+URL\(\s*§(\d+)§\s*,\s*import\.meta\.url)/g;
  return [...bare.matchAll(form)].map((match) => ({
    specifier: texts[Number(match[3] ?? match[4] ?? match[5])] ?? '',
    typeOnly: match[2] !== undefined,
  }));
}
