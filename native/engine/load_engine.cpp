#include "engine/engine.h"
#include "engine/memory_price.h"
#include "engine/nextstep_engine.h"
#include "engine/transdiff_engine.h"
#include "io/json_file.h"
#include "model/transdiff_config.h"

namespace ardiff {

std::unique_ptr<Engine> load_engine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options) {
  const nlohmann::json config = read_json_file(directory / "config.json");
  const bool transdiff = is_transdiff(ConfigReader(config, "config.json"));
  const auto make = [&](Backend& on, const LoadOptions& how) -> std::unique_ptr<Engine> {
    if (transdiff) return std::make_unique<TransDiffEngine>(on, directory, how);
    return std::make_unique<NextStepEngine>(on, directory, how);
  };
  const std::optional<DeviceMemory> memory = backend.device_memory();
  if (!memory) return make(backend, options);
  // Not yet loading.
  LoadOptions unseen = options;
  unseen.progress = nullptr;
  MemoryPrice price = price_memory(backend, [&](Backend& counting) { return make(counting, unseen); }, options);
  price.free = memory->free;
  check_fits(price, *memory);
  std::unique_ptr<Engine> engine = make(backend, options);
  engine->keep_price(price);
  return engine;
}

}  // namespace ardiff
