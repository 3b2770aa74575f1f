import { EngineError, ServerError, type ErrorCode, type ErrorDetails } from '../errors.js';
import type { NativeErrorCode } from '../engine/native-types.js';

/** A `ServerError` as plain data: class and fields of an error do not survive the way between processes. */
export interface WireError {
  code: ErrorCode;
  message: string;
  details: Omit<ErrorDetails, 'cause'>;
  native: { code: NativeErrorCode; detail: string } | null;
  /** Stack of what caused it, for the log. */
  cause: string | null;
}

export function toWireError(error: ServerError): WireError {
  const { code, message, param, retryAfterSeconds, shouldRetry, cause } = error;
  return {
    code,
    message,
    details: {
      ...(param === null ? {} : { param }),
      ...(retryAfterSeconds === null ? {} : { retryAfterSeconds }),
      ...(shouldRetry === null ? {} : { shouldRetry }),
    },
    native: error instanceof EngineError ? { code: error.nativeCode, detail: error.detail } : null,
    cause: cause === undefined ? null : cause instanceof Error ? (cause.stack ?? cause.message) : String(cause),
  };
}

export function fromWireError({ code, message, details, native, cause }: WireError): ServerError {
  if (native !== null) return new EngineError(native.code, native.detail, cause ?? undefined);
  return new ServerError(code, message, cause === null ? details : { ...details, cause });
}
