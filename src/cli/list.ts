/** `trapline list`: the functions of a file that can be named in a probe. */

import { hex } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { listFunctions, type CommonFile, type ListedFunction, type ListRequest } from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { renderTable } from '../screen/table.ts';
import { jsonText, printable } from '../base/text.ts';
import { DescriptorMessages, ExitStatus } from './messages.ts';
import { openOutput, ReaderGone } from './output.ts';
import { waitingFor } from './waiting.ts';

/**
 * Lists functions on standard output, and says on standard error where the names come from.
 * @throws TraplineError `no-file`, `bad-elf`, and `no-symbol` when nothing matches.
 */
export async function list(name: string, request: ListRequest, json: boolean): Promise<number> {
  const listing = listFunctions(name, request);
  const { functions, advice, commonFile } = await waitingFor(`reading ${name}`, listing);
  if (functions.length === 0) throw nothing(name, request.glob, advice);
  const lines = json
    ? functions.map(toJson)
    : renderFunctions(functions, painterFor(process.stdout));
  using output = openOutput();
  try {
    await output.write(Buffer.from(`${lines.join('\n')}\n`, 'utf8'));
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error; // `trapline list … | head`
  }
  if (!json) new DescriptorMessages().lines(renderSources(functions, advice, commonFile));
  return ExitStatus.good;
}

/**
 * A line that counts the names of each source, one for the common file of the debug file, and one that says what would give
 * more.
 */
export function renderSources(
  functions: readonly ListedFunction[],
  advice?: string,
  commonFile?: CommonFile,
): string[] {
  const counts = new Map<string, number>();
  for (const { source } of functions) counts.set(source, (counts.get(source) ?? 0) + 1);
  const parts = [...counts].map(([source, count]) => `${count} of ${printable(source)}`);
  return [
    `names: ${parts.join(', ')}`,
    ...(commonFile === undefined ? [] : [renderCommonFile(commonFile)]),
    ...(advice === undefined ? [] : [`hint: ${printable(advice)}`]),
  ];
}

function renderCommonFile({ path, buildId, found, problem }: CommonFile): string {
  if (found) return `common file: ${printable(path)}`;
  const reason = problem === undefined ? '' : `: ${printable(problem)}`;
  return `common file: ${printable(path)} (build id ${buildId}) was not found${reason}; no name is missing for that`;
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
  return binding === 'global' || kind === 'unnamed' ? kind : `${kind}, ${binding}`;
}

function toJson(each: ListedFunction): string {
  return jsonText({ ...each, offset: hex(each.offset) });
}

function nothing(
  path: string,
  glob: string | undefined,
  advice = `trapline list --unnamed ${path} shows what has no name, too`,
): TraplineError {
  return new TraplineError({
    code: 'no-symbol',
    message:
      glob === undefined
        ? `${path} has no symbols of functions`
        : `no function of ${path} is like '${glob}'`,
    hint: advice,
  });
}
