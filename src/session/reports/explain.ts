/** Why a place is probed as it is: everything that the decision rests on. */

import {
  address,
  hex,
  pid as brandPid,
  type Address,
  type FileOffset,
  type Pid,
} from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { ControlBlock } from '../../engines/jump/block.ts';
import type { SitePlan, SiteRefusal } from '../../engines/jump/planner.ts';
import { rehearse, type NamedCode, type RehearsedSite } from '../../engines/jump/rehearsal.ts';
import { MemoryReader, readProcessMaps } from '../../engines/jump/spaces.ts';
import { parseDefinition, type ProbeDefinition } from '../../probe/definition.ts';
import type { Program } from '../../probe/program.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { format, decodeAt } from '../../x64/decode.ts';
import { ownPid } from '../../sys/signals.ts';
import type { FileCache, MappedFile } from '../files/files.ts';
import { findFile } from '../files/find-file.ts';
import { hitMeter, machineFeatures } from '../own-machine.ts';
import { aboutFile } from '../probes/about-file.ts';
import { planPlaces } from '../probes/plans.ts';
import { PlaceRegistry, type ResolvedPlace } from '../probes/place-registry.ts';
import { filesMeant, namePlaces, notShown, type UnresolvedPlace } from '../probes/resolve.ts';
import type { ExplainedCode, ExplainedInstruction, Explanation, ExplainRequest } from '../types.ts';
import { modelOf } from '../files/whole-file.ts';

/** Instructions that are shown before and behind those that matter. */
const AROUND = 3;
/** Instructions on either side of a refused place that are tried. */
const MOST_TRIED = 16;

interface View {
  readonly pid: Pid;
  readonly maps: readonly MemoryMapping[];
  readonly block: ControlBlock;
  /** Where there is no process: what was added to the file's own addresses. */
  readonly base: Address | undefined;
}

/**
 * Explains every place that a definition means.
 * @throws TraplineError as parsing and resolving do; `usage` for a place that needs a process.
 */
export function explainProbe(
  text: string,
  request: ExplainRequest,
  files: FileCache,
): Explanation[] {
  const definition = parseDefinition(text);
  const view =
    request.pid === undefined ? viewOfFile(definition, files) : viewOf(brandPid(request.pid));
  const { places, unresolved } = resolve(definition, view, files);
  const planOf = planPlaces(places);
  const explained = places.map((place) =>
    explainPlace(view, definition, place, planOf(place), files, request),
  );
  const unknown = unresolved.map(({ file, name, reason }) => {
    return { name, file: file.path, refused: reason, rejected: [], landings: [], code: [] };
  });
  return [...explained, ...unknown];
}

/** What a definition means in a process. @throws TraplineError as resolving does; `no-file` where the file is not mapped. */
function resolve(
  definition: ProbeDefinition,
  { pid, maps }: View,
  files: FileCache,
): { readonly places: readonly ResolvedPlace[]; readonly unresolved: readonly UnresolvedPlace[] } {
  const { location, text } = definition;
  const meant = filesMeant(pid, maps, location, files);
  if (meant.length === 0) {
    throw new TraplineError({
      code: 'no-file',
      message: `process ${pid} does not map the file of ${text}`,
      hint: 'Leave -p out to look at the file alone.',
    });
  }
  const registry = new PlaceRegistry<ProbeDefinition>();
  const named = meant.map((file) => {
    return { file, named: namePlaces({ pid, maps, files }, file, definition, []) };
  });
  const at = location.kind === 'address' ? location.address : undefined;
  for (const one of named) registry.register(definition, one.file, one.named, pid, at);
  const places = registry.placesIn(pid, maps).get(definition) ?? [];
  const unresolved = named.flatMap((one) => one.named.unresolved);
  const missing = notShown(definition, registry.placesOf(definition, meant, pid), places);
  return { places, unresolved: [...unresolved, ...missing] };
}

function viewOf(pid: Pid): View {
  const maps = readProcessMaps(pid);
  const view = { pid, maps, base: undefined };
  return { ...view, block: blockOf(view) };
}

/** The file alone, at addresses that a process might have. */
function viewOfFile(definition: ProbeDefinition, files: FileCache): View {
  const { location, text } = definition;
  if (location.kind === 'address') return viewOf(brandPid(location.pid));
  if (location.kind === 'inode') {
    throw new TraplineError({
      code: 'usage',
      message: `${text} names a file by its number, which only a process leads to`,
      hint: 'Say with -p which process maps it.',
    });
  }
  const { file } = location;
  const { maps, base } = aboutFile(definition, () => modelOf(findFile(file), files));
  return { pid: ownPid(), maps, block: ControlBlock.empty(), base };
}

function explainPlace(
  view: View,
  definition: ProbeDefinition,
  place: ResolvedPlace,
  plan: SitePlan | SiteRefusal,
  files: FileCache,
  { stub = false }: ExplainRequest,
): Explanation {
  const { file, offset } = place;
  const program: Program = {
    arguments: definition.arguments,
    filter: definition.filter,
    action: 'record',
  };
  const site = plan.kind === 'refused' ? plan.reason : rehearsed(view, place, plan, program, files);
  const known = { name: place.name, file: file.path, offset, ...describe(place, plan, site) };
  const where = view.base !== undefined ? {} : { pid: view.pid, processAddress: place.address };
  if (typeof site === 'string') {
    const nearest = nearestPlaces(view, place, program, files);
    return { ...known, ...where, refused: site, nearest };
  }
  return {
    ...known,
    ...where,
    ...(view.base === undefined ? {} : { base: view.base }),
    method: site.method,
    isThere: site.isThere,
    patch: Buffer.from(site.patch).toString('hex'),
    displacedBytes: site.displacedBytes,
    mapped: site.mapped.map(({ bytes }) => bytes),
    costNanoseconds: costOf(program, files),
    ...(stub ? { stub: site.code.map((code) => disassemble(code)) } : {}),
  };
}

/** The instructions of the function that are nearest to a place and can be probed, before it and behind it. */
function nearestPlaces(
  view: View,
  place: ResolvedPlace,
  program: Program,
  files: FileCache,
): FileOffset[] {
  const { file, offset } = place;
  const boundaries = file.planner.boundaries(offset);
  const canBe = (at: FileOffset): boolean => {
    const [plan] = file.planner.plan([at]);
    if (plan === undefined || plan.kind === 'refused') return false;
    const there = address(place.address + BigInt(at - offset));
    const other = { ...place, offset: at, address: there };
    // A rehearsal adds rows: each has a block of its own.
    const fresh = { ...view, block: blockOf(view) };
    return typeof rehearsed(fresh, other, plan, program, files) !== 'string';
  };
  const before = boundaries.filter((at) => at < offset).toReversed();
  const behind = boundaries.filter((at) => at > offset);
  return [before, behind].flatMap((list) => list.slice(0, MOST_TRIED).find(canBe) ?? []);
}

function blockOf({ pid, maps, base }: Omit<View, 'block'>): ControlBlock {
  if (base !== undefined) return ControlBlock.empty();
  using reader = new MemoryReader(pid);
  return ControlBlock.read(maps, reader.read);
}

function rehearsed(
  { pid, maps, block }: View,
  place: ResolvedPlace,
  plan: SitePlan,
  program: Program,
  files: FileCache,
): RehearsedSite | string {
  const { file } = place;
  const features = { ...machineFeatures(), threadPointer: 'memory' } as const; // the literal
  const target = { maps, block, original: files.original(pid, maps), features };
  return rehearse(target, {
    plan,
    address: place.address,
    program,
    probe: 0,
    consumer: 0,
    file: file.identity,
    counter: undefined,
  });
}

function costOf(program: Program, files: FileCache): { count: number; record: number } {
  const measure = hitMeter(files);
  const count: Program = { ...program, arguments: [], filter: undefined, action: 'count' };
  return { count: measure(count), record: measure(program) };
}

/** What the file alone tells. */
function describe(
  { file, offset }: ResolvedPlace,
  plan: SitePlan | SiteRefusal,
  site: RehearsedSite | string,
): Pick<Explanation, 'rejected' | 'landings' | 'code'> & Partial<Explanation> {
  const examined = file.planner.examine(offset);
  const rejected = [...plan.rejected];
  if (plan.kind === 'plan' && typeof site !== 'string') {
    const taken = plan.ways.findIndex(({ method }) => method === site.method);
    for (const { method } of plan.ways.slice(0, Math.max(0, taken))) {
      rejected.push({ method, reason: 'what is around it in this process does not let it be' });
    }
  }
  if (examined === undefined) return { rejected, landings: [], code: [] };
  const { bounds, boundaries, landings } = examined;
  const at = file.elf.addressOf(offset);
  return {
    rejected,
    landings,
    code: instructionsAround(
      file,
      offset,
      boundaries,
      typeof site === 'string' ? 1 : site.displacedBytes,
    ),
    function: { start: bounds.start, end: bounds.end, source: bounds.source },
    ...(at === undefined ? {} : { address: at }),
  };
}

function instructionsAround(
  { elf }: MappedFile,
  offset: FileOffset,
  boundaries: readonly number[],
  displacedBytes: number,
): ExplainedInstruction[] {
  const place = boundaries.indexOf(offset);
  const behind = boundaries.findIndex((at) => at >= offset + displacedBytes);
  const last = behind < 0 ? boundaries.length : behind;
  const shown = boundaries.slice(Math.max(0, place - AROUND), last + AROUND);
  return shown.map((at) => {
    const where = address(BigInt(elf.loads.addressOf(at)));
    const { length } = decodeAt(elf.bytes, at, where);
    return {
      offset: at,
      address: where,
      bytes: Buffer.from(elf.bytes.subarray(at, at + length)).toString('hex'),
      text: format(elf.bytes, at, where),
      isDisplaced: at >= offset && at < offset + displacedBytes,
    };
  });
}

/** Instructions of code of ours, and its words of data. */
function disassemble({ name, address: start, bytes, words }: NamedCode): ExplainedCode {
  const lines: { address: bigint; text: string }[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    const where = address(start + BigInt(at));
    if (words.includes(where) && at + 8 <= bytes.byteLength) {
      const view = new DataView(bytes.buffer, bytes.byteOffset + at, 8);
      lines.push({ address: where, text: `.quad ${hex(view.getBigUint64(0, true))}` });
      at += 8;
      continue;
    }
    const { length } = decodeAt(bytes, at, where);
    const text = bytes[at] === 0xcc ? 'int3' : format(bytes, at, where);
    lines.push({ address: where, text });
    at += length;
  }
  return { name, lines };
}
