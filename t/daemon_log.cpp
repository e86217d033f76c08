// daemon_log -- tests of the daemon's log file: threads that write, a file that is moved away, a disk that is full.
#include "../examples/smtpd/log_file.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
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

std::unique_ptr<LogFile> opened(const fs::path& path) {
    auto log = std::make_unique<LogFile>(path);
    log->open();
    return log;
}

// A log into a pipe that holds less than a line: who writes waits for who reads.
struct SlowLog {
    SlowLog() {
        const auto path = folder.path / "log";
        if (mkfifo(path.c_str(), 0600) != 0) throw std::system_error(errno, std::generic_category(), "mkfifo");
        in = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        fcntl(in, F_SETPIPE_SZ, 4096);
        log = opened(path);
        fcntl(in, F_SETFL, 0);
    }
    ~SlowLog() { close(in); }
    // A line of 5,000 octets is told by its first.
    static std::string line(int number) { return std::string(5000, char('A' + number % 26)); }
    char read_line() const {
        std::string got;
        for (char some[5001]; got.size() < 5001;) {
            const auto n = ::read(in, some, 5001 - got.size());
            if (n <= 0) return '?';
            got.append(some, std::size_t(n));
        }
        return got == std::string(5000, got[0]) + '\n' ? got[0] : '!';
    }
    Folder folder;
    std::unique_ptr<LogFile> log;
    int in = -1;
};

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
            for (int i = 0; i < lines; ++i) log->write_line(std::to_string(n) + '-' + std::to_string(i));
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
    log->write_line("still");
    CHECK(read(folder.path / "old") == "still\n");
}

TEST_CASE("a log whose disk was full goes on, and what was torn ends its line") {
    const Folder folder;
    const auto child = fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        auto log = opened(folder.path / "log");
        log->write_line("first");
        rlimit before{};
        getrlimit(RLIMIT_FSIZE, &before);
        const rlimit small{10, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        log->write_line("a torn one");
        log->write_line("none of this one");
        setrlimit(RLIMIT_FSIZE, &before);
        log->write_line("last");
        log->write_line("and more");
        _exit(0);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(read(folder.path / "log") == "first\na to\nlast\nand more\n");
}

TEST_CASE("who has a line for the log does not wait for another's, and all come in their order") {
    SlowLog slow;
    auto first = std::async(std::launch::async, [&] { slow.log->write_line(SlowLog::line(0)); });
    pollfd there{slow.in, POLLIN, 0};
    REQUIRE(poll(&there, 1, 30'000) == 1);
    for (int i = 1; i <= 5; ++i) slow.log->write_line(SlowLog::line(i));
    CHECK(first.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
    std::string found;
    for (int i = 0; i <= 5; ++i) found += slow.read_line();
    CHECK(found == "ABCDEF");
}

TEST_CASE("when much waits for the log, who has more for it waits too") {
    SlowLog slow;
    auto first = std::async(std::launch::async, [&] { slow.log->write_line(SlowLog::line(0)); });
    pollfd there{slow.in, POLLIN, 0};
    REQUIRE(poll(&there, 1, 30'000) == 1);
    std::atomic<int> written{0};
    auto others = std::async(std::launch::async, [&] {
        for (; written < 100; ++written) slow.log->write_line(SlowLog::line(1));
    });
    CHECK(others.wait_for(std::chrono::milliseconds(300)) == std::future_status::timeout);
    CHECK(written < 30);
    std::string found;
    for (int i = 0; i <= 100; ++i) found += slow.read_line();
    CHECK(found == 'A' + std::string(100, 'B'));
}

TEST_CASE("nobody writes others' lines into the log for long") {
    SlowLog slow;
    auto first = std::async(std::launch::async, [&] { slow.log->write_line(SlowLog::line(0)); });
    pollfd there{slow.in, POLLIN, 0};
    REQUIRE(poll(&there, 1, 30'000) == 1);
    std::vector<std::future<void>> others;
    std::string found, expected = "A";
    bool waits = false;
    while (!waits && others.size() < 100) {  // one that waits is to go on with it
        const int number = int(others.size()) + 1;
        expected += SlowLog::line(number)[0];
        others.push_back(std::async(std::launch::async, [&, number] { slow.log->write_line(SlowLog::line(number)); }));
        waits = others.back().wait_for(std::chrono::milliseconds(500)) == std::future_status::timeout;
        found += slow.read_line();
    }
    CHECK(others.size() < 20);
    CHECK(first.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
    found += slow.read_line();
    CHECK(found == expected);
}
