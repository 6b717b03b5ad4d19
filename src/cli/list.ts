/** `trapline list`: the functions of a file that can be named in a probe. */

import { hex } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { listFunctions, type ListedFunction } from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { renderTable } from '../screen/table.ts';
import { findFile } from './find-file.ts';
import { ExitStatus } from './messages.ts';
import { openOutput, ReaderGone } from './output.ts';
import { waitingFor } from './waiting.ts';

/**
 * Lists functions on standard output.
 * @throws TraplineError `no-file`, `bad-elf`, and `no-symbol` when nothing matches.
 */
export async function list(name: string, glob: string | undefined, json: boolean): Promise<number> {
  const path = findFile(name);
  const functions = await waitingFor(`reading ${path}`, listFunctions(path, glob));
  if (functions.length === 0) throw nothing(path, glob);
  const lines = json
    ? functions.map(toJson)
    : renderFunctions(functions, painterFor(process.stdout));
  using output = openOutput();
  try {
    await output.write(Buffer.from(`${lines.join('\n')}\n`, 'utf8'));
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error; // `trapline list … | head`
  }
  return ExitStatus.good;
}

/** A table: offset, size, name as the file has it, and what it means where that differs. */
export function renderFunctions(
  functions: readonly ListedFunction[],
  paint: Painter = PLAIN,
): string[] {
  const demangled = functions.some((each) => each.demangled !== undefined);
  const columns = [
    { heading: 'offset', align: 'right' as const },
    { heading: 'size' },
    { heading: 'kind', paint: paint.dim },
    { heading: 'name', paint: paint.bold },
    ...(demangled ? [{ heading: 'for people' }] : []),
  ];
  const rows = functions.map((each) => [
    hex(each.offset),
    each.size,
    kindOf(each),
    nameOf(each),
    ...(demangled ? [each.demangled] : []),
  ]);
  return renderTable(columns, rows, { paintHeading: paint.dim });
}

/** As it is written in a probe: with its version, if it has one. */
function nameOf({ name, version }: ListedFunction): string {
  return version === undefined || name.includes('@') ? name : `${name}@${version}`;
}

function kindOf({ kind, binding }: ListedFunction): string {
  return binding === 'global' ? kind : `${kind}, ${binding}`;
}

function toJson(each: ListedFunction): string {
  return JSON.stringify({ ...each, offset: hex(each.offset) });
}

function nothing(path: string, glob: string | undefined): TraplineError {
  return new TraplineError({
    code: 'no-symbol',
    message:
      glob === undefined
        ? `${path} has no symbols of functions`
        : `no function of ${path} is like '${glob}'`,
    hint:
      glob === undefined
        ? 'it was stripped: install its debug package, or name places by FILE:0xOFFSET'
        : `trapline list ${path} shows all`,
  });
}
