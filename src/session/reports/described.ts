/** Reading what living sessions tell of themselves. It may be anybody's: nothing of it is believed but as text for people. */

import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

import { tid as brandTid } from '../../base/brand.ts';
import { readCommandLine, readTaskStatus } from '../../process/tasks.ts';
import { DESCRIPTION_NAME, DESCRIPTION_VERSION, type SessionDescription } from './description.ts';
import type { DescribedProbe, HeldSession } from './held.ts';
import type { RefusedSite } from '../types.ts';

/** More than thousands of probes take. */
const MOST_BYTES = 64 << 20;
/** So often it is read again that was written meanwhile. */
const ATTEMPTS = 3;

/**
 * Looks for the sessions of tracers, each process once.
 * @returns asks for one by the number of its tracer; undefined where it is not to be found, or not ours to look at
 */
export function describedSessions(): (tracer: number) => HeldSession['owner'] {
  const known = new Map<number, readonly SessionDescription[]>();
  return (tracer) => {
    const status = readTaskStatus(brandTid(tracer));
    if (status === undefined) return undefined;
    const { pid } = status;
    const found = known.get(pid) ?? readDescriptions(pid);
    known.set(pid, found);
    const described = found.find((one) => one.tracer === tracer);
    return described && { pid, command: readCommandLine(pid) ?? '', probes: described.probes };
  };
}

function readDescriptions(pid: number): SessionDescription[] {
  const folder = `/proc/${pid}/fd`;
  return namesIn(folder).flatMap((name) => {
    try {
      const path = `${folder}/${name}`;
      const isOne = readlinkSync(path).startsWith(`/memfd:${DESCRIPTION_NAME} `);
      return (isOne ? readDescription(path) : undefined) ?? [];
    } catch {
      return []; // closed meanwhile, as the one by which the folder was read
    }
  });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // gone, or not ours to look at
  }
}

function readDescription(path: string): SessionDescription | undefined {
  const fd = openSync(path, 'r');
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (fstatSync(fd).size > MOST_BYTES) return undefined;
      const described = parseDescription(readFileSync(path, 'utf8'));
      if (described !== undefined) return described;
    }
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** The text of a description; undefined where it is none, or not whole. */
export function parseDescription(text: string): SessionDescription | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // it is being written
  }
  if (!isRecord(value) || value['version'] !== DESCRIPTION_VERSION) return undefined;
  const { generation, end, tracer, probes } = value;
  if (typeof generation !== 'number' || generation !== end) return undefined;
  if (typeof tracer !== 'number' || !Array.isArray(probes)) return undefined;
  const described = probes.map((probe) => asProbe(probe));
  const known = described.filter((probe) => probe !== undefined);
  return { generation, version: DESCRIPTION_VERSION, tracer, probes: known, end };
}

function asProbe(value: unknown): DescribedProbe | undefined {
  if (!isRecord(value)) return undefined;
  const { id, definition, listing, action, filter, costNanoseconds, refused } = value;
  if (typeof id !== 'number' || typeof definition !== 'string') return undefined;
  if (typeof listing !== 'string') return undefined;
  const places = Array.isArray(refused) ? refused.map((place) => asRefused(place)) : [];
  return {
    id,
    definition,
    listing,
    action: action === 'count' ? 'count' : 'record',
    ...(typeof filter === 'string' ? { filter } : {}),
    ...(typeof costNanoseconds === 'number' ? { costNanoseconds } : {}),
    refused: places.filter((place) => place !== undefined),
  };
}

function asRefused(value: unknown): RefusedSite | undefined {
  if (!isRecord(value)) return undefined;
  const { pid, name, file, reason } = value;
  if (typeof pid !== 'number' || typeof name !== 'string') return undefined;
  if (typeof file !== 'string' || typeof reason !== 'string') return undefined;
  return { pid, name, file, reason };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
