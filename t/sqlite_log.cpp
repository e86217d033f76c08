// The log of an SqliteStore's database: written at once, or not at all.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <string>

#include "../Relay/SqliteConnection.hpp"
#include "../Relay/SqliteStore.hpp"
#include "../Server/Content.hpp"
#include "faults.hpp"

namespace {

using namespace Net::SMTP;
namespace fs = std::filesystem;

// A folder that is gone with its test.
struct Folder {
    Folder() {
        std::string name = fs::temp_directory_path() / "sqlite-log-XXXXXX";
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~Folder() { fs::remove_all(path); }
    std::string path;
};

QueuedMail mail(const std::string& id) {
    QueuedMail out;
    out.id = id;
    out.from = Sender("a@example.org");
    out.to = {Recipient("b@example.net")};
    out.text = Message("Subject: x\r\n\r\n" + std::string(20'000, 'x') + "\r\n");
    out.arrived = out.due = queue_now();
    return out;
}

int code_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const StoreError& e) {
        return e.reply().code;
    }
    return 250;
}

// An empty database with a log.
std::string database(const Folder& folder) {
    const auto path = folder.path + "/queue.db";
    const Descriptor made(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SqliteConnection db(path, 1000);
    CHECK(db.ask("PRAGMA journal_mode=WAL") == "wal");
    db.execute("CREATE TABLE x(text BLOB NOT NULL)");
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)");  // what is rolled back is then not even read
    return path;
}

void insert(SqliteConnection& db, int rows, char what) {
    for (int i = 0; i < rows; ++i) db.run("INSERT INTO x VALUES (?)", std::string(1000, what));
}

}  // namespace

TEST_CASE("a commit is written to the log by one call, and synced") {
    const Folder folder;
    SqliteStore store(folder.path, {.page_size = 4096});  // what is written at once has room for 15 of them
    store.put(mail("first"));
    std::string calls;
    const auto watch = [&](int call, const std::string& path) {
        if (path.ends_with("-wal")) calls += call == SYS_pwrite64 ? 'w' : 's';
        return 0;
    };
    if (!test::with_faults({SYS_pwrite64, SYS_fdatasync}, watch, [&] { store.put(mail("one")); }))
        MESSAGE("skipped: no calls can be watched");
    else CHECK(calls == "ws");
}

TEST_CASE("a log that can't be written is 451 or 452, and then all goes on") {
    const Folder folder;
    SqliteStore store(folder.path);
    store.put(mail("first"));
    std::atomic<int> error{0}, failed{0};
    const auto fail = [&](int, const std::string& path) {
        const int now = path.ends_with("-wal") ? error.load() : 0;
        failed += now != 0;
        return now;
    };
    const auto dialogue = [&] {
        error = EIO;
        CHECK(code_of([&] { store.put(mail("not")); }) == 451);
        error = 0;
        store.put(mail("one"));
        error = ENOSPC;
        CHECK(code_of([&] { store.put(mail("neither")); }) == 452);
        error = 0;
        store.put(mail("two"));
    };
    if (!test::with_faults({SYS_pwrite64}, fail, dialogue)) {
        MESSAGE("skipped: no call can be made to fail");
        return;
    }
    CHECK(failed >= 2);
    for (const auto* kept : {"first", "one", "two"}) CHECK(store.look(kept).has_value());
    for (const auto* lost : {"not", "neither"}) CHECK_FALSE(SqliteStore(folder.path).item(lost).has_value());
    CHECK(SqliteStore(folder.path).stats().messages == 3);
}

TEST_CASE("what has been rolled back is never written where another's commit is") {
    const Folder folder;
    const auto path = database(folder);
    SqliteConnection one(path, 1000), other(path, 1000);
    one.execute("PRAGMA cache_size=10");  // so that pages go to the log before the commit
    one.execute("BEGIN IMMEDIATE");
    insert(one, 300, 'a');
    SUBCASE("by a program that says so") { one.execute("ROLLBACK"); }
    SUBCASE("by an error") {
        CHECK_THROWS(one.execute("INSERT OR ROLLBACK INTO x VALUES (NULL)"));
        CHECK_FALSE(one.in_transaction());
    }
    insert(other, 100, 'b');
    CHECK(one.ask("SELECT count(*) FROM x WHERE text = CAST(replace(hex(zeroblob(500)), '0', 'b') AS BLOB)") == "100");
    CHECK(one.ask("PRAGMA integrity_check") == "ok");
    insert(one, 1, 'c');
    CHECK(SqliteConnection(path, 1000).ask("PRAGMA integrity_check") == "ok");
    CHECK(other.ask("SELECT count(*) FROM x") == "101");
}

TEST_CASE("a transaction larger than what is kept, with parts that are undone, is what it should be") {
    const Folder folder;
    const auto path = database(folder);
    {
        SqliteConnection db(path, 1000);
        db.execute("PRAGMA cache_size=10; BEGIN IMMEDIATE");
        insert(db, 2000, 'a');
        db.execute("SAVEPOINT part");
        insert(db, 300, 'b');
        db.execute("ROLLBACK TO part");
        insert(db, 100, 'c');
        CHECK(db.ask("SELECT count(*) FROM x") == "2100");
        db.execute("COMMIT");
    }
    SqliteConnection again(path, 1000);
    CHECK(again.ask("PRAGMA integrity_check") == "ok");
    CHECK(again.ask("SELECT count(DISTINCT text) || ' ' || count(*) FROM x") == "2 2100");
}

TEST_CASE("a connection that is closed within its transaction leaves nothing of it") {
    const Folder folder;
    const auto path = database(folder);
    SqliteConnection other(path, 1000);
    {
        SqliteConnection db(path, 1000);
        db.execute("PRAGMA cache_size=10; BEGIN IMMEDIATE");
        insert(db, 300, 'a');
    }
    insert(other, 10, 'b');
    CHECK(SqliteConnection(path, 1000).ask("PRAGMA integrity_check") == "ok");
    CHECK(other.ask("SELECT count(*) FROM x") == "10");
}
