// Bearer tokens as the contract wants them, and wrong in every way a test asks for.

import { createHmac } from 'node:crypto';

const KEY = 'testhub-signing-key-for-tests-only-0123456789';
const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** Claims override the good ones; `undefined` removes one. */
export function token(claims = {}, { alg = 'HS256', key = KEY } = {}) {
  const now_s = Math.floor(Date.now() / 1000);
  const all = { iss: 'testhub', aud: 'testhub-clients', sub: 'alice', exp: now_s + 600, ...claims };
  const signed = `${part({ alg, typ: 'JWT' })}.${part(all)}`;
  if (alg === 'none') return `${signed}.`;
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[alg];
  return `${signed}.${createHmac(hash, key).update(signed).digest('base64url')}`;
}
