/** The functions of one file, for people who look for what to probe. */

import { readFileSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';

import { hex } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { compileGlob } from '../../base/glob.ts';
import { demangleCpp } from '../../sys/demangle.ts';
import { commonLink } from '../../symbols/debug-link.ts';
import { ElfFile } from '../../symbols/elf.ts';
import type { SectionedFile } from '../../symbols/elf-header.ts';
import type { FunctionSymbol } from '../../symbols/function-symbol.ts';
import type { SymbolSource } from '../../symbols/symbol-rows.ts';
import { symbolSources } from '../../symbols/symbol-sources.ts';
import { SymbolTable } from '../../symbols/symbol-table.ts';
import { unnamedFunctions } from '../../symbols/unnamed-functions.ts';
import { debugFileAdvice } from './debug-advice.ts';
import { DebugFiles } from './debug-files.ts';
import { findFile } from './find-file.ts';
import type { CommonFile, FunctionList, ListedFunction, ListRequest } from '../types.ts';

/**
 * Lists a file's functions by offset, all names of each.
 * @param file a path, or what `findFile` finds
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export function listFile(file: string, { glob, unnamed = false }: ListRequest): FunctionList {
  const path = findFile(file);
  const elf = ElfFile.open(readFile(path), path);
  const place = { path: realpathSync(path), root: '' };
  const debugFiles = new DebugFiles();
  const sources = symbolSources(elf, () => debugFiles.find(elf, place));
  const table = SymbolTable.of(elf, { demangle: demangleCpp });
  const matches = glob === undefined ? (): boolean => true : compileGlob(glob);
  const all = table.functions();
  const nameOf = nameOfSource(sources.debugFile?.name);
  const functions: ListedFunction[] = [];
  for (const symbol of all) {
    const readable = table.readable(symbol);
    const names = [symbol.name, readable?.signature, readable?.path];
    if (names.some((name) => name !== undefined && matches(name))) {
      functions.push(toListed(symbol, readable?.signature, nameOf(symbol.table)));
    }
  }
  if (unnamed) {
    for (const { offset, size } of unnamedFunctions(elf, all)) {
      const name = `${basename(path)}:${hex(offset)}`;
      const fixed = { kind: 'unnamed', binding: 'local', source: '.eh_frame' } as const;
      if (matches(name)) functions.push({ name, offset, size, ...fixed });
    }
    functions.sort((a, b) => a.offset - b.offset);
  }
  const advice = debugFileAdvice(elf, sources);
  const commonFile = findCommonFile(debugFiles, sources.debugFile ?? elf);
  return {
    functions,
    ...(advice === undefined ? {} : { advice }),
    ...(commonFile === undefined ? {} : { commonFile }),
  };
}

/** The common file that a file names, found or not; undefined when it names none. */
function findCommonFile(debugFiles: DebugFiles, file: SectionedFile): CommonFile | undefined {
  const link = commonLink(file);
  if (link === undefined) return undefined;
  try {
    const path = debugFiles.findCommon(file, '')?.name;
    return { ...link, found: path !== undefined, ...(path === undefined ? {} : { path }) };
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return { ...link, found: false, problem: error.message };
  }
}

function toListed(
  { name, version, offset, size, kind, binding }: FunctionSymbol,
  demangled: string | undefined,
  source: string,
): ListedFunction {
  return {
    name,
    offset,
    size,
    kind,
    binding,
    source,
    ...(demangled === undefined ? {} : { demangled }),
    ...(version === undefined ? {} : { version }),
  };
}

/** What people call a source: a section of the file, or a path. */
function nameOfSource(debugFile: string | undefined): (source: SymbolSource) => string {
  const names: Readonly<Record<SymbolSource, string>> = {
    symtab: '.symtab',
    dynsym: '.dynsym',
    debugdata: '.gnu_debugdata',
    'debug-file': debugFile ?? 'debug file',
    pclntab: '.gopclntab',
    plt: '.plt',
  };
  return (source) => names[source];
}

function readFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TraplineError({
      code: 'no-file',
      message: `${path} can't be read`,
      hint: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
