/** What is to be seen of a sequence before it is finished. */
export interface PreviewPlan {
  /** Token (or timestep) counts at which the unfinished picture is decoded: ascending, each once, below the whole. */
  readonly partials: readonly number[];
  /** The tokens of each finished grid row are handed out. */
  readonly rows: boolean;
}

export const NO_PREVIEWS: PreviewPlan = { partials: [], rows: false };
