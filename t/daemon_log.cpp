// daemon_log -- tests of the daemon's log file: threads that write, a file that is moved away, a disk that is full.
#include <unistd.h>

#include <atomic>
#include <cstddef>

namespace {

std::atomic<std::size_t> largest_write{0};

ssize_t noted_write(int fd, const void* from, std::size_t size) {
    for (auto largest = largest_write.load(); size > largest && !largest_write.compare_exchange_weak(largest, size);) {
    }
    return write(fd, from, size);
}

}  // namespace

#define write noted_write
#include "../examples/smtpd/log_file.hpp"
#undef write

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
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

// What is in a log after write(its path, limit), by a process of its own: there limit(octets) is how long files may
// become, with RLIM_INFINITY as long as they might before.
template <class Write>
std::string written_by_a_child(Write write) {
    const Folder folder;
    const auto child = fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        rlimit before{};
        getrlimit(RLIMIT_FSIZE, &before);
        write(folder.path / "log", [&](rlim_t octets) {
            const rlimit now{std::min(octets, before.rlim_cur), before.rlim_max};
            setrlimit(RLIMIT_FSIZE, &now);
        });
        _exit(0);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    return read(folder.path / "log");
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
    // Writes the first one; returns when that has begun, and waits for who reads.
    std::future<void> begin() {
        auto first = std::async(std::launch::async, [this] { log->write_line(line(0)); });
        pollfd there{in, POLLIN, 0};
        REQUIRE(poll(&there, 1, 30'000) == 1);
        return first;
    }
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
    const auto found = written_by_a_child([](const fs::path& path, auto limit) {
        auto log = opened(path);
        log->write_line("first");
        limit(10);
        log->write_line("a torn one");
        log->write_line("none of this one");
        limit(RLIM_INFINITY);
        log->write_line("last");
        log->write_line("and more");
    });
    CHECK(found == "first\na to\nlast\nand more\n");
}

TEST_CASE("a log that is begun anew where it was, or by the next start, ends a line that was torn") {
    const auto found = written_by_a_child([](const fs::path& path, auto limit) {
        auto log = opened(path);
        limit(4);
        log->write_line("a torn one");
        limit(RLIM_INFINITY);
        log->open();
        log->write_line("after that");
        limit(20);
        log->write_line("torn again");
        limit(RLIM_INFINITY);
        log = opened(path);
        log->write_line("the next start");
        log = opened(path);
        log->write_line("and one more");
    });
    CHECK(found == "a to\nafter that\ntorn\nthe next start\nand one more\n");
}

TEST_CASE("a log of which nothing could be written has no blank line for it") {
    const auto found = written_by_a_child([](const fs::path& path, auto limit) {
        auto log = opened(path);
        log->write_line("first");
        limit(6);
        for (int i = 0; i < 3; ++i) log->write_line("none of this one");
        limit(RLIM_INFINITY);
        log->write_line("last");
    });
    CHECK(found == "first\nlast\n");
}

TEST_CASE("a log for another user follows no symbolic link, and a file of two names stays who it was") {
    const Folder folder;
    fs::create_symlink("elsewhere", folder.path / "link");
    LogFile link(folder.path / "link", true);
    CHECK_THROWS_AS(link.open(), std::system_error);
    CHECK(!fs::exists(folder.path / "elsewhere"));
    LogFile null("/dev/null", true);
    null.open();
    null.give_to(geteuid(), getegid());  // it is no file, and left alone
    auto log = opened(folder.path / "log");
    CHECK_NOTHROW(log->give_to(geteuid(), getegid()));
    fs::create_hard_link(folder.path / "log", folder.path / "another");
    CHECK_THROWS_AS(log->give_to(geteuid(), getegid()), std::system_error);
}

TEST_CASE("whatever many threads write, one write of the log is never much more than 64 KiB") {
    const Folder folder;
    auto log = opened(folder.path / "log");
    largest_write = 0;
    std::vector<std::thread> writers;
    for (int n = 0; n < 64; ++n)
        writers.emplace_back([&] {
            for (int i = 0; i < 200; ++i) log->write_line(std::string(4000, 'x'));
        });
    for (auto& writer : writers) writer.join();
    CHECK(fs::file_size(folder.path / "log") == 64 * 200 * 4001);
    CHECK(largest_write > 0);
    CHECK(largest_write < (64 << 10) + 4001);
}

TEST_CASE("in a pipe no write of the log is longer than what stays in one piece there") {
    SlowLog slow;
    auto first = slow.begin();
    std::string expected = SlowLog::line(0) + '\n';
    for (int i = 0; i < 400; ++i) {
        const std::string line(std::size_t(100 + i % 50), char('a' + i % 26));
        slow.log->write_line(line);
        expected += line + '\n';
    }
    largest_write = 0;
    std::string found;
    while (found.size() < expected.size()) {
        char some[4096];
        const auto n = ::read(slow.in, some, sizeof some);
        REQUIRE(n > 0);
        found.append(some, std::size_t(n));
    }
    CHECK(found == expected);
    CHECK(largest_write > 1000);
    CHECK(largest_write <= PIPE_BUF);
}

TEST_CASE("a log is begun anew while a line of it is being written, and nobody waits for that") {
    SlowLog slow;
    const auto path = slow.folder.path / "log";
    auto first = slow.begin();
    fs::rename(path, slow.folder.path / "old");
    slow.log->open();
    fs::rename(path, slow.folder.path / "between");
    slow.log->open();
    slow.log->write_line("in the new one");
    CHECK(slow.read_line() == 'A');
    first.get();
    CHECK(read(path) == "in the new one\n");
    CHECK(read(slow.folder.path / "between").empty());
}

TEST_CASE("who waits for room in the log has it as soon as there is some") {
    SlowLog slow;
    auto first = slow.begin();
    for (int i = 0; i < 14; ++i) slow.log->write_line(SlowLog::line(1));  // 64 KiB wait
    auto last = std::async(std::launch::async, [&] { slow.log->write_line(SlowLog::line(2)); });
    CHECK(last.wait_for(std::chrono::milliseconds(200)) == std::future_status::timeout);
    std::string found;
    found += slow.read_line();
    // Now the others are being written, and nothing waits.
    CHECK(last.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
    while (found.size() < 16) found += slow.read_line();
    CHECK(found == "A" + std::string(14, 'B') + "C");
}

TEST_CASE("who has a line for the log does not wait for another's, and all come in their order") {
    SlowLog slow;
    auto first = slow.begin();
    for (int i = 1; i <= 5; ++i) slow.log->write_line(SlowLog::line(i));
    CHECK(first.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
    std::string found;
    for (int i = 0; i <= 5; ++i) found += slow.read_line();
    CHECK(found == "ABCDEF");
}

TEST_CASE("when much waits for the log, who has more for it waits too") {
    SlowLog slow;
    auto first = slow.begin();
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
    auto first = slow.begin();
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
