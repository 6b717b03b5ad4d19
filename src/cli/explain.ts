/** `trapline explain`: why a place is probed as it is. */

import { hex } from '../base/brand.ts';
import { explain, type ExplainedCode, type Explanation, type ExplainRequest } from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { renderTable } from '../screen/table.ts';
import { jsonText, printable } from '../base/text.ts';
import { ExitStatus } from './messages.ts';
import { openOutput, ReaderGone } from './output.ts';
import { waitingFor } from './waiting.ts';

/**
 * Explains definitions on standard output.
 * @returns 0 if every place can be probed, else 1
 * @throws TraplineError as parsing and resolving do.
 */
export async function explainAll(
  definitions: readonly string[],
  request: ExplainRequest,
  json: boolean,
): Promise<number> {
  const paint = painterFor(process.stdout);
  let isGood = true;
  using output = openOutput();
  for (const definition of definitions) {
    const found = await waitingFor(`looking at ${definition}`, explain(definition, request));
    isGood &&= found.every(({ refused }) => refused === undefined);
    const lines = found.flatMap((one) => (json ? [toJson(one)] : renderExplanation(one, paint)));
    try {
      await output.write(Buffer.from(`${lines.join('\n')}\n`, 'utf8'));
    } catch (error) {
      if (!(error instanceof ReaderGone)) throw error;
      break; // `trapline explain … | head`: nobody reads the rest
    }
  }
  return isGood ? ExitStatus.good : ExitStatus.error;
}

/** An explanation as lines. */
export function renderExplanation(one: Explanation, paint: Painter = PLAIN): string[] {
  const rows = [
    ...whereRows(one),
    ...methodRows(one),
    ...one.rejected.map(({ method, reason }) => ['', `not ${method}: ${reason}`]),
    ...costRows(one),
  ];
  const width = Math.max(...rows.map(([topic = '']) => topic.length));
  return [
    paint.bold(printable(one.name)),
    ...rows.map(([topic = '', text = '']) => {
      return `  ${paint.dim(topic.padEnd(width))}  ${printable(text)}`;
    }),
    ...renderCode(one, paint),
    ...(one.stub === undefined || one.base === undefined
      ? []
      : [`  ${paint.dim(`written to a process that has the file at ${hex(one.base)}:`)}`]),
    ...(one.stub ?? []).flatMap((code) => renderStub(code, paint)),
    '',
  ];
}

function whereRows({
  file,
  offset,
  address,
  pid,
  processAddress,
  function: known,
}: Explanation): string[][] {
  const rows = [['file', offset === undefined ? file : `${file}:${hex(offset)}`]];
  if (address !== undefined) {
    const there =
      processAddress === undefined ? '' : `, in process ${pid ?? 0} at ${hex(processAddress)}`;
    rows.push(['address', `${hex(address)}${there}`]);
  }
  if (known !== undefined) {
    const { start, end, source } = known;
    const by = { symbol: 'its symbol', fde: 'the unwind tables', section: 'its section' }[source];
    rows.push(['function', `file offsets ${hex(start)} to ${hex(end)}, by ${by}`]);
  }
  return rows;
}

function methodRows(one: Explanation): string[][] {
  const { refused, method, patch = '', displacedBytes = 0, isThere, mapped = [] } = one;
  if (method === undefined) {
    const near = (one.nearest ?? []).map((at) => `${one.file}:${hex(at)}`).join(' and ');
    const advice =
      near === '' ? [] : [['instead', `the nearest instructions that can be probed: ${near}`]];
    return [['refused', refused ?? 'no method serves'], ...advice];
  }
  const bytes = patch.replaceAll(/(..)(?=.)/g, '$1 ');
  const rows = [
    ['method', `${method}${isThere === true ? ', which is there already' : ''}`],
    ['writes', `${bytes}; ${displacedBytes} bytes of instructions move to the stub`],
  ];
  if (mapped.length > 0) {
    const sizes = mapped.map((size) => `${size / 1024} KiB`).join(' + ');
    rows.push(['maps', `${sizes} near the code`]);
  }
  return rows;
}

function costRows({ costNanoseconds: cost }: Explanation): string[][] {
  if (cost === undefined) return [];
  const record = cost.record.toFixed(1);
  return [['cost', `${record} ns a hit that records, ${cost.count.toFixed(1)} ns one that counts`]];
}

/** The instructions, those that move marked, with who comes to each. */
function renderCode({ code, landings, offset }: Explanation, paint: Painter): string[] {
  if (code.length === 0) return [];
  const rows = code.map((each) => {
    const comers = landings.filter(({ at }) => at === each.offset).map(({ reason }) => reason);
    const [first = '', ...others] = comers;
    const more = others.length > 0 ? `, and ${others.length} more` : '';
    return [
      each.offset === offset ? '>' : each.isDisplaced ? '|' : '',
      hex(each.address),
      each.bytes,
      printable(each.text),
      `${first}${more}`,
    ];
  });
  const columns = ['', 'address', 'bytes', 'instruction', 'who comes here, but from above'];
  return renderTable(
    columns.map((heading) => ({ heading })),
    rows,
    { indent: '  ', paintHeading: paint.dim },
  );
}

function renderStub({ name, lines }: ExplainedCode, paint: Painter): string[] {
  return [
    `  ${paint.dim(`${name}:`)}`,
    ...lines.map(({ address, text }) => `    ${hex(address)}  ${text}`),
  ];
}

function toJson(one: Explanation): string {
  return jsonText(one, (_, value) => (typeof value === 'bigint' ? hex(value) : value));
}
