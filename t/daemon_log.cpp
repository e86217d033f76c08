// daemon_log -- tests of the daemon's log file: threads that write, a file that is moved away, a disk that is full.
#include "../examples/smtpd/log_file.hpp"

#include <Poco/AutoPtr.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Folder {
    Folder() {
        std::string name = fs::temp_directory_path() / "daemon-log-XXXXXX";
        path = mkdtemp(name.data());
    }
    ~Folder() { fs::remove_all(path); }
    fs::path path;
};

std::string read(const fs::path& path) {
    std::ostringstream all;
    all << std::ifstream(path).rdbuf();
    return all.str();
}

Poco::Message line(const std::string& text) { return {"smtpd", text, Poco::Message::PRIO_INFORMATION}; }

Poco::AutoPtr<LogFile> opened(const fs::path& path) {
    Poco::AutoPtr<LogFile> log(new LogFile(path));
    log->open();
    return log;
}

}  // namespace

TEST_CASE("the log is begun anew while threads write into it, and each line is there once and whole") {
    constexpr int threads = 4, lines = 2000;
    const Folder folder;
    const auto now = folder.path / "log";
    auto log = opened(now);
    std::atomic<int> left{threads};
    std::vector<std::thread> writers;
    for (int n = 0; n < threads; ++n)
        writers.emplace_back([&, n] {
            for (int i = 0; i < lines; ++i) log->log(line(std::to_string(n) + '-' + std::to_string(i)));
            --left;
        });
    for (int moved = 0; left > 0; ++moved) {
        if (moved < 1000) fs::rename(now, folder.path / std::to_string(moved));
        log->open();
    }
    for (auto& writer : writers) writer.join();
    std::vector<std::string> found;
    for (const auto& file : fs::directory_iterator(folder.path)) {
        std::ifstream in(file.path());
        for (std::string one; std::getline(in, one);) found.push_back(one);
    }
    std::vector<std::string> expected;
    for (int n = 0; n < threads; ++n)
        for (int i = 0; i < lines; ++i) expected.push_back(std::to_string(n) + '-' + std::to_string(i));
    std::ranges::sort(found);
    std::ranges::sort(expected);
    CHECK(found == expected);
}

TEST_CASE("a log that can't be begun anew goes on as it was") {
    const Folder folder;
    auto log = opened(folder.path / "log");
    fs::rename(folder.path / "log", folder.path / "old");
    fs::create_directory(folder.path / "log");
    CHECK_THROWS_AS(log->open(), std::system_error);
    log->log(line("still"));
    CHECK(read(folder.path / "old") == "still\n");
}

TEST_CASE("a log whose disk was full goes on, and what was torn ends its line") {
    const Folder folder;
    const auto child = fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        auto log = opened(folder.path / "log");
        log->log(line("first"));
        rlimit before{};
        getrlimit(RLIMIT_FSIZE, &before);
        const rlimit small{10, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        log->log(line("a torn one"));
        log->log(line("none of this one"));
        setrlimit(RLIMIT_FSIZE, &before);
        log->log(line("last"));
        log->log(line("and more"));
        _exit(0);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(read(folder.path / "log") == "first\na to\nlast\nand more\n");
}
