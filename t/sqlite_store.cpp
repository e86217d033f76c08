// sqlite_store -- what is the SqliteStore's own: files of large texts, processes, locks, versions, a full disk.
#include "../Relay/SqliteState.hpp"
#include "../Relay/SqliteStore.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../Server/Content.hpp"
#include "../Server/Files.hpp"

// The system's, which the whole program calls through here: they fail when a test says so.
static std::atomic<bool> syncs_fail{false};
extern "C" int fsync(int fd) {
    if (syncs_fail) return errno = EIO, -1;
    return int(syscall(SYS_fsync, fd));
}
extern "C" int fdatasync(int fd) {
    if (syncs_fail) return errno = EIO, -1;
    return int(syscall(SYS_fdatasync, fd));
}

namespace {

using namespace Net::SMTP;
namespace fs = std::filesystem;

// A folder that is gone with its test.
struct Place {
    Place() {
        std::string name = fs::temp_directory_path() / "sqlite-store-XXXXXX";
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path = name + "/queue";
    }
    ~Place() { fs::remove_all(fs::path(path).parent_path()); }
    std::string path;
};

QueuedMail mail(const std::string& id, std::string text = "Subject: x\r\n\r\nhello\r\n") {
    QueuedMail out;
    out.id = id;
    out.from = Sender("a@example.org");
    out.to = {Recipient("b@Example.NET")};
    out.head = "Received: by us\r\n";
    out.text = Message(std::move(text));
    out.arrived = out.due = queue_now();
    return out;
}

// What another process does with a place; the exit status is how many of its wishes were not granted.
int in_child(const std::function<bool()>& wish) {
    const auto child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        bool granted = false;
        try {
            granted = wish();
        } catch (...) {
        }
        _exit(granted ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    return status;
}

// A process whose constructor returns when it has done what comes first; then it does the rest, or lives until it is
// killed.
class Child {
public:
    explicit Child(const std::function<bool()>& first, const std::function<bool()>& rest = {}) {
        int ends[2];
        REQUIRE(pipe(ends) == 0);
        pid_ = fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            const char done = first() ? 'y' : 'n';
            if (write(ends[1], &done, 1) != 1) _exit(1);
            if (rest) _exit(rest() ? 0 : 1);
            while (true) pause();
        }
        close(ends[1]);
        char done = 'n';
        if (read(ends[0], &done, 1) != 1) done = 'n';
        close(ends[0]);
        REQUIRE(done == 'y');
    }
    ~Child() { end(); }
    void end() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(std::exchange(pid_, 0), nullptr, 0);
    }
    // Waits for its end.
    bool well() {
        int status = -1;
        return waitpid(std::exchange(pid_, 0), &status, 0) > 0 && status == 0;
    }

private:
    pid_t pid_ = 0;
};

// As the server leaves it when a text was too large for memory.
Message spooled(const std::string& folder, const std::string& text) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file(folder);
    write_all(content->file.get(), text.data(), text.size());
    content->size = text.size();
    return Message(content);
}

std::set<std::string> files_in(const std::string& folder) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
    return names;
}

ino_t inode(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

std::string large(char c = 'x') { return "Subject: large\r\n\r\n" + std::string(300'000, c) + "\r\n"; }

// Another program's hand on the database.
struct Foreign {
    explicit Foreign(const std::string& path) {
        if (sqlite3_open(path.c_str(), &db) != SQLITE_OK) throw std::runtime_error("open " + path);
        sqlite3_busy_timeout(db, 20'000);
    }
    ~Foreign() { sqlite3_close(db); }
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;
    void run(const char* sql) {
        if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(db));
    }
    sqlite3* db = nullptr;
};

int code_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const StoreError& e) {
        return e.reply().code;
    }
    return 250;
}

}  // namespace

TEST_CASE("mail is put, given out, read and recorded") {
    const Place place;
    SqliteStore store(place.path);
    store.put(mail("one"));
    CHECK_THROWS_AS(store.put(mail("one")), std::invalid_argument);
    CHECK(store.lead());
    REQUIRE(store.domains(std::nullopt, 10).size() == 1);
    CHECK(store.domains(std::nullopt, 10)[0].name == "example.net");
    auto tasks = store.claim("example.net", queue_now(), 10);
    REQUIRE(tasks.size() == 1);
    CHECK(store.stats().in_flight == 1);
    CHECK(store.cancel("one") == Cancelled::in_flight);
    CHECK(tasks[0].to[0].recipient.raw == "<b@Example.NET>");
    CHECK(store.text(tasks[0]).view() == "Subject: x\r\n\r\nhello\r\n");
    CHECK(store.look("one")->view() == "Received: by us\r\nSubject: x\r\n\r\nhello\r\n");
    const QueueVerdict later{.number = 0, .due = queue_now() + std::chrono::hours(1), .reply = {450, "4.2.0", "full"}};
    CHECK(store.record(tasks[0], {&later, 1}, {}));
    CHECK_FALSE(store.record(tasks[0], {&later, 1}, {}));
    CHECK(store.item("one")->to[0].last == later.reply);
    CHECK(store.flush_all() == 1);
    tasks = store.claim("example.net", queue_now(), 10);
    REQUIRE(tasks.size() == 1);
    const QueueVerdict done{.number = 0, .done = true};
    CHECK(store.record(tasks[0], {&done, 1}, {}));
    CHECK(store.stats().messages == 0);
    CHECK(store.stats().octets == 0);
    CHECK_FALSE(store.item("one"));
}

TEST_CASE("a small text comes with its task, a larger one is asked for") {
    const Place place;
    SqliteStore store(place.path);
    auto m = mail("one");
    store.put(m);
    m = mail("two");
    m.text = Message(std::string(8 * 1024, 'x'));
    store.put(m);
    m = mail("three");
    m.text = Message(std::string(8 * 1024 + 1, 'x'));
    store.put(m);
    m = mail("four");
    m.text = Message();
    store.put(m);
    REQUIRE(store.lead());
    const auto tasks = store.claim("example.net", queue_now(), 10);
    REQUIRE(tasks.size() == 4);
    for (const auto& task : tasks) {
        CHECK((task.text != nullptr) == (task.id != "three"));
        CHECK((!task.text || *task.text == store.text(task).view()));
    }
}

TEST_CASE("so many small texts are out at once, and those that come back make room") {
    const TextsAhead ahead;
    std::vector<std::shared_ptr<const std::string>> out;
    const std::string text(8 * 1024, 'x');
    while (ahead.wanted() && out.size() < 10'000) out.push_back(ahead.keep(text));
    CHECK(out.size() == 2048);
    const auto copy = out.back();
    out.pop_back();
    CHECK_FALSE(ahead.wanted());
    out.pop_back();
    CHECK(ahead.wanted());
}

// ---- large texts ----

TEST_CASE("a large text that was received into the store's folder becomes its file without a copy") {
    const Place place;
    SqliteStore store(place.path);
    Options options;
    store.apply(options);
    CHECK(options.spool_dir == place.path + "/bodies");
    CHECK(options.spool_above == 128 << 10);
    auto m = mail("one");
    m.text = spooled(options.spool_dir, large());
    struct stat received {};
    REQUIRE(fstat(m.text.content()->file.get(), &received) == 0);
    store.put(m);
    const auto files = files_in(options.spool_dir);
    REQUIRE(files.size() == 1);
    CHECK(inode(options.spool_dir + '/' + *files.begin()) == received.st_ino);

    SUBCASE("and is gone with the message, but can be read by who has it") {
        REQUIRE(store.lead());
        const auto tasks = store.claim("example.net", queue_now(), 1);
        REQUIRE(tasks.size() == 1);
        const auto text = store.text(tasks[0]);
        CHECK(text.spooled());
        const QueueVerdict done{.number = 0, .done = true};
        CHECK(store.record(tasks[0], {&done, 1}, {}));
        CHECK(files_in(options.spool_dir).empty());
        CHECK(text.view() == large());
    }
    SUBCASE("and a second mail of the same message has a file of its own") {
        m.id = "two";
        store.put(m);
        CHECK(files_in(options.spool_dir).size() == 2);
        CHECK(store.cancel("one") == Cancelled::found);
        CHECK(store.look("two")->view() == m.head + large());
    }
    SUBCASE("and what was refused leaves none") {
        m.text = spooled(options.spool_dir, large('y'));
        CHECK_THROWS_AS(store.put(m), std::invalid_argument);
        CHECK(files_in(options.spool_dir) == files);
        CHECK(store.look("one")->view() == m.head + large());
    }
}

TEST_CASE("a text goes into a file above the limit, and not at it") {
    const Place place;
    SqliteStore store(place.path, {.file_above = 1000});
    for (const std::size_t size : {999, 1000, 1001}) {
        store.put(mail("in-memory-" + std::to_string(size), std::string(size, 'm')));
        auto m = mail("in-file-" + std::to_string(size));
        m.text = spooled(fs::temp_directory_path(), std::string(size, 'f'));
        store.put(m);
        CHECK(store.look(m.id)->view() == m.head + std::string(size, 'f'));
        CHECK(store.look("in-memory-" + std::to_string(size))->view() == m.head + std::string(size, 'm'));
    }
    CHECK(files_in(place.path + "/bodies").size() == 2);
}

TEST_CASE("a sweep removes what dead processes have left and no mail has, and nothing else") {
    const Place place;
    SqliteStore store(place.path), neighbour(place.path);
    store.put(mail("ours", large()));
    neighbour.put(mail("neighbours", large()));
    CHECK(in_child([&] { return store.put(mail("inherited", large())), true; }) == 0);
    const auto bodies = place.path + "/bodies/";
    const auto named = files_in(bodies);
    REQUIRE(named.size() == 3);
    // Not committed yet, for all we know: its owner lives.
    const auto token = named.begin()->substr(0, named.begin()->find('-'));
    std::set<std::string> kept = named;
    for (const auto& name : named)
        if (fs::exists(place.path + "/owners/" + name.substr(0, name.find('-')))) kept.insert(name + "9");
    kept.insert("notes.txt");
    for (const auto& name : kept) std::ofstream(bodies + name, std::ios::app) << "";
    // Of the child, which is dead, and of nobody.
    for (const auto& name : named) std::ofstream(bodies + name.substr(0, name.find('-')) + "-77") << "x";
    std::ofstream(bodies + new_queue_id() + "-1") << "x";
    const auto removed = store.sweep();
    CHECK(removed >= 2);
    const auto left = files_in(bodies);
    for (const auto& name : named) CHECK(left.contains(name));
    CHECK(left.contains("notes.txt"));
    for (const auto* id : {"ours", "neighbours", "inherited"}) CHECK(store.look(id)->size() > 300'000);
    CHECK(store.sweep() == 0);
}

TEST_CASE("sweeping all the time removes nothing of those who put") {
    const Place place;
    SqliteStore store(place.path), sweeper(place.path);
    std::atomic<bool> over{false};
    std::jthread sweeping([&] {
        while (!over) (void)sweeper.sweep();
    });
    std::vector<std::jthread> putting;
    for (int t = 0; t < 4; ++t)
        putting.emplace_back([&, t] {
            for (int i = 0; i < 10; ++i) store.put(mail(std::to_string(t) + '-' + std::to_string(i), large()));
        });
    putting.clear();
    over = true;
    sweeping.join();
    CHECK(store.stats().messages == 40);
    for (const auto& item : store.items(0, 100))
        CHECK(store.look(item.id)->size() == large().size() + mail("").head.size());
}

// ---- processes ----

TEST_CASE("what a leader had is free when it is dead, and in flight as long as it lives") {
    const Place place;
    SqliteStore store(place.path);
    store.put(mail("one"));
    store.put(mail("two"));
    Child leader([&] { return store.lead() && store.claim("example.net", queue_now(), 1).size() == 1; });
    CHECK_FALSE(store.lead());
    CHECK(store.stats().in_flight == 1);
    CHECK(store.item("one")->in_flight());
    CHECK(store.cancel("one") == Cancelled::in_flight);
    CHECK(store.cancel("two") == Cancelled::found);
    leader.end();
    CHECK(store.stats().in_flight == 0);
    CHECK_FALSE(store.item("one")->in_flight());
    SUBCASE("without anybody who leads") { CHECK(store.cancel("one") == Cancelled::found); }
    SUBCASE("for the next one") {
        CHECK(store.lead());
        CHECK(store.claim("example.net", queue_now(), 10).size() == 1);
    }
}

TEST_CASE("a child keeps its parent neither in the lead nor alive") {
    const Place place;
    std::optional<SqliteStore> store(std::in_place, place.path);
    SqliteStore other(place.path);
    store->put(mail("one", large()));
    REQUIRE(store->lead());
    REQUIRE(store->claim("example.net", queue_now(), 10).size() == 1);
    const Child child([&] { return true; });
    CHECK_FALSE(other.lead());
    store.reset();
    CHECK(other.lead());
    CHECK(other.claim("example.net", queue_now(), 10).size() == 1);
}

TEST_CASE("who does not lead is given nothing, nor a child of who does") {
    const Place place;
    SqliteStore store(place.path);
    store.put(mail("one"));
    CHECK_THROWS_AS(store.claim("example.net", queue_now(), 1), std::logic_error);
    REQUIRE(store.lead());
    CHECK(in_child([&] { return !store.lead(); }) == 0);
    CHECK(in_child([&] { return store.claim("example.net", queue_now(), 1).empty(); }) != 0);
    CHECK(store.claim("example.net", queue_now(), 1).size() == 1);
}

TEST_CASE("children that are forked while others put lose nothing and wait for nobody") {
    const Place place;
    SqliteStore store(place.path);
    std::atomic<bool> over{false};
    std::atomic<int> count{0};
    std::vector<std::jthread> busy;
    for (int t = 0; t < 4; ++t)
        busy.emplace_back([&, t] {
            for (int i = 0; !over; ++i, ++count) store.put(mail("p-" + std::to_string(t) + '-' + std::to_string(i)));
        });
    busy.emplace_back([&] {
        while (!over) (void)store.stats();
    });
    for (int c = 0; c < 8; ++c) {
        CHECK(in_child([&] {
                  for (int i = 0; i < 5; ++i) store.put(mail("c-" + std::to_string(c) + '-' + std::to_string(i)));
                  return store.item("c-" + std::to_string(c) + "-4").has_value();
              }) == 0);
        count += 5;
    }
    over = true;
    busy.clear();
    CHECK(store.stats().messages == std::uint64_t(count));
}

TEST_CASE("a child's mail outlives the database of its parent") {
    const Place place;
    std::optional<SqliteStore> store(std::in_place, place.path);
    store->put(mail("before"));
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const Descriptor from(ends[0]), to(ends[1]);
    const auto put = [&](const char* id) {
        store->put(mail(id));
        return true;
    };
    const auto go_on = [&] {
        char go = 0;
        return read(from.get(), &go, 1) == 1 && put("child-2");
    };
    Child child([&] { return put("child-1"); }, go_on);
    store.reset();
    {
        // As the last to close, it empties the log and removes it.
        Foreign foreign(place.path + "/queue.db");
        foreign.run("SELECT count(*) FROM message");
    }
    REQUIRE(write(to.get(), "x", 1) == 1);
    CHECK(child.well());
    SqliteStore again(place.path);
    for (const auto* id : {"before", "child-1", "child-2"}) CHECK(again.item(id).has_value());
}

// ---- what can't be ----

TEST_CASE("a database of a newer version is refused, and left as it is") {
    const Place place;
    { SqliteStore(place.path).put(mail("one")); }
    { Foreign(place.path + "/queue.db").run("PRAGMA user_version=2"); }
    SqliteStore store(place.path);
    try {
        store.put(mail("two"));
        FAIL("it was taken");
    } catch (const StoreError& e) {
        CHECK(e.reply().code == 451);
        CHECK(std::string(e.what()).find("newer version") != std::string::npos);
    }
    CHECK(code_of([&] { (void)store.stats(); }) == 451);
    { Foreign(place.path + "/queue.db").run("PRAGMA user_version=1"); }
    store.put(mail("two"));
    CHECK(store.stats().messages == 2);
}

TEST_CASE("a database of somebody else is refused, and left as it is") {
    const Place place;
    fs::create_directory(place.path);
    { Foreign(place.path + "/queue.db").run("CREATE TABLE theirs(a)"); }
    SqliteStore store(place.path);
    CHECK(code_of([&] { store.put(mail("one")); }) == 451);
    Foreign foreign(place.path + "/queue.db");
    foreign.run("SELECT * FROM theirs");
    CHECK_THROWS(foreign.run("SELECT * FROM message"));
}

TEST_CASE("who opens a queue to look at it does not make its log longer") {
    Place place;
    const SqliteStore::Options options{.log_size = 1 << 20};
    SqliteStore store(place.path, options);
    store.put(mail("a"));
    for (int i = 0; i < 40; ++i) CHECK(SqliteStore(place.path, options).stats().messages == 1);
    CHECK(fs::file_size(place.path + "/queue.db-wal") <= options.log_size);
}

TEST_CASE("an empty file becomes a database") {
    const Place place;
    fs::create_directory(place.path);
    { std::ofstream(place.path + "/queue.db"); }
    SqliteStore store(place.path);
    store.put(mail("one"));
    CHECK(store.stats().messages == 1);
}

TEST_CASE("while another program has the database locked nothing is put, and all can be read") {
    const Place place;
    SqliteStore store(place.path);
    store.put(mail("one"));
    {
        Foreign foreign(place.path + "/queue.db");
        foreign.run("BEGIN IMMEDIATE");
        CHECK(code_of([&] { store.put(mail("two")); }) == 451);
        CHECK(store.look("one").has_value());
        CHECK(store.stats().messages == 1);
    }
    store.put(mail("two"));
    CHECK(store.stats().messages == 2);
}

TEST_CASE("what could not be synced was not put, and then all goes on") {
    const Place place;
    std::optional<SqliteStore> store(std::in_place, place.path);
    store->put(mail("one"));
    syncs_fail = true;
    CHECK(code_of([&] { store->put(mail("two")); }) == 451);
    CHECK(code_of([&] { store->put(mail("three")); }) == 451);
    CHECK(code_of([&] { store->put(mail("large", large())); }) == 451);
    syncs_fail = false;
    store->put(mail("four"));
    const auto as_it_should_be = [&] {
        CHECK(store->stats().messages == 2);
        CHECK(store->item("one").has_value());
        CHECK(store->item("four").has_value());
        CHECK(files_in(place.path + "/bodies").empty());
    };
    as_it_should_be();
    store.emplace(place.path);
    as_it_should_be();
}

namespace {

// Puts until there is no room; how many were taken. Nothing when it does not say 452, or what was taken is not there.
std::optional<int> fill(SqliteStore& store) {
    int taken = 0, code = 250;
    for (; taken < 10'000; ++taken) {
        code = code_of([&] { store.put(mail("n-" + std::to_string(taken), std::string(10'000, 'x'))); });
        if (code != 250) break;
    }
    if (code != 452 || store.stats().messages != std::uint64_t(taken)) return {};
    if (code_of([&] { store.put(mail("large", large())); }) != 452) return {};
    return taken;
}

bool goes_on(SqliteStore& store, int before) {
    store.put(mail("again"));
    store.put(mail("large", large()));
    return store.stats().messages == std::uint64_t(before) + 2 && store.look("large")->size() > large().size();
}

}  // namespace

TEST_CASE("where files may not grow it is 452, and then all goes on") {
    const Place place;
    const auto status = in_child([&] {
        signal(SIGXFSZ, SIG_IGN);
        SqliteStore store(place.path, {.log_size = 64 << 10, .page_size = 4096});
        store.put(mail("first"));
        if (store.cancel("first") != Cancelled::found) return false;
        rlimit before{};
        getrlimit(RLIMIT_FSIZE, &before);
        const rlimit small{200'000, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        const auto taken = fill(store);
        setrlimit(RLIMIT_FSIZE, &before);
        return taken && *taken > 0 && goes_on(store, *taken);
    });
    CHECK(status == 0);
}

TEST_CASE("on a full disk it is 452, and what is there can still be delivered") {
    const Place place;
    fs::create_directory(place.path);
    constexpr int not_allowed = 77;
    const auto status = in_child([&] {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount("tmpfs", place.path.c_str(), "tmpfs", 0, "size=3m") != 0)
            _exit(not_allowed);
        SqliteStore store(place.path, {.log_size = 256 << 10});
        const auto taken = fill(store);
        if (!taken || *taken < 10 || !store.lead()) return false;
        for (const auto& task : store.claim("example.net", queue_now(), 1000)) {
            const QueueVerdict done{.number = 0, .done = true};
            if (!store.record(task, {&done, 1}, {})) return false;
        }
        // Nobody has made the disk larger, but there is room in the database.
        store.put(mail("instead"));
        if (mount("tmpfs", place.path.c_str(), "tmpfs", MS_REMOUNT, "size=6m") != 0) return false;
        return goes_on(store, 1);
    });
    if (WIFEXITED(status) && WEXITSTATUS(status) == not_allowed) MESSAGE("skipped: no file system can be mounted");
    else CHECK(status == 0);
}

TEST_CASE("totals are told of any mail that was the last to change them") {
    const Place place;
    std::optional<SqliteStore> store(std::in_place, place.path);
    const auto totals = [&] {
        store.emplace(place.path);  // another process would see the same
        const auto now = store->stats();
        return std::array{now.messages, now.recipients, now.held, now.octets};
    };
    const auto put = [&](const std::string& id, bool held = false) {
        auto one = mail(id, "12345");
        one.held = held;
        one.to.push_back(Recipient("c@example.net"));
        store->put(one);
    };
    using Totals = std::array<std::uint64_t, 4>;
    put("one");
    put("two", true);
    put("three");
    CHECK(totals() == Totals{3, 6, 1, 15});
    CHECK(store->cancel("three") == Cancelled::found);  // the newest
    CHECK(totals() == Totals{2, 4, 1, 10});
    CHECK(store->release("two"));
    CHECK(totals() == Totals{2, 4, 0, 10});
    put("four", true);
    CHECK_THROWS_AS(put("four"), std::invalid_argument);
    CHECK(totals() == Totals{3, 6, 1, 15});
    CHECK(store->items(0, 10).back().message == 4);  // the third's number is not used again
    CHECK(store->cancel("one") == Cancelled::found);
    CHECK(totals() == Totals{2, 4, 1, 10});
    for (const auto* id : {"two", "four"}) CHECK(store->cancel(id) == Cancelled::found);
    CHECK(totals() == Totals{0, 0, 0, 0});
    put("five");
    CHECK(totals() == Totals{1, 2, 0, 5});
    CHECK(store->items(0, 10).back().message == 5);
}

TEST_CASE("the oldest mail is told in whatever order they came") {
    const Place place;
    SqliteStore store(place.path);
    using namespace std::chrono_literals;
    const auto start = queue_now();
    const auto put = [&](const std::string& id, std::chrono::seconds arrived) {
        auto one = mail(id);
        one.arrived = start + arrived;
        store.put(one);
    };
    const auto oldest = [&] { return std::chrono::duration_cast<std::chrono::seconds>(*store.stats().oldest - start); };
    put("a", 10s);
    put("b", 30s);
    CHECK(oldest() == 10s);
    put("c", 5s);
    CHECK(oldest() == 5s);
    put("d", 20s);
    store.cancel("c");
    CHECK(oldest() == 10s);
    store.cancel("a");
    CHECK(oldest() == 20s);
    put("e", 30s);
    store.cancel("d");
    CHECK(oldest() == 30s);
    store.cancel("b");
    store.cancel("e");
    CHECK_FALSE(store.stats().oldest);
    put("f", -100s);
    put("g", -50s);
    CHECK(oldest() == -100s);
    CHECK(store.cancel("f") == Cancelled::found);
    CHECK(oldest() == -50s);
}

TEST_CASE("a small mail is five pages of the log") {
    const Place place;
    SqliteStore store(place.path);
    store.put(mail("one"));
    Foreign foreign(place.path + "/queue.db");
    // What is there goes to its place, so the log begins anew; then how many pages it has.
    const auto pages = [&] {
        int all = 0, moved = 0;
        CHECK(sqlite3_wal_checkpoint_v2(foreign.db, nullptr, SQLITE_CHECKPOINT_PASSIVE, &all, &moved) == SQLITE_OK);
        CHECK(all == moved);
        return all;
    };
    pages();
    store.put(mail("two"));
    CHECK(pages() <= 5);
}
