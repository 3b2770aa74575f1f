#include "engine/engine.h"
#include "engine/nextstep_engine.h"
#include "engine/transdiff_engine.h"
#include "io/json_file.h"
#include "model/transdiff_config.h"

namespace ardiff {

std::unique_ptr<Engine> load_engine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options) {
  const nlohmann::json config = read_json_file(directory / "config.json");
  if (is_transdiff(ConfigReader(config, "config.json"))) return std::make_unique<TransDiffEngine>(backend, directory, options);
  return std::make_unique<NextStepEngine>(backend, directory, options);
}

}  // namespace ardiff
