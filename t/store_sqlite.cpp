// store_sqlite -- SqliteStore through the suite that every store must pass.
#include <filesystem>

#include "../Relay/SqliteStore.hpp"
#include "store_conformance.hpp"

using namespace test::stores;

namespace {

class Folder : public StorePlace {
public:
    Folder() {
        std::string name = std::filesystem::temp_directory_path() / "store-XXXXXX";
        MUST(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~Folder() override {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::unique_ptr<Store> open() override { return std::make_unique<SqliteStore>(path_ + "/queue"); }

private:
    std::string path_;
};

std::unique_ptr<StorePlace> folder() { return std::make_unique<Folder>(); }

}  // namespace

STORE_KEEPS_ITS_PROMISES("SqliteStore", folder)
STORE_KEEPS_ITS_PROMISES_TO_PROCESSES("SqliteStore", folder)
