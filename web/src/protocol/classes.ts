/** What GET /v1/models/{id}/classes says of one class. */
export interface ImageClass {
  index: number;
  name: string;
  synonyms: readonly string[];
  synset: string | null;
  group: string | null;
}

export async function fetchClasses(model: string): Promise<ImageClass[]> {
  const answer = await fetch(`/v1/models/${encodeURIComponent(model)}/classes`, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`the classes of ${model}: ${answer.status}`);
  return ((await answer.json()) as { data: ImageClass[] }).data;
}
