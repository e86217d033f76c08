// auth_file -- tests of AuthFile: which files are believed, what a line says, and what a new reading changes.
#include "../Server/AuthFile.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "peer.hpp"
#include "sasl.hpp"

using namespace test;
using namespace std::string_literals;
using Kept = Accounts::Kept;

namespace {

// A file of accounts in a folder of its own.
struct Written {
    Folder folder;
    std::string path = folder.path + "/accounts";

    explicit Written(const std::string& text) { write(text); }
    void write(const std::string& text, mode_t mode = 0600) const {
        std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
        REQUIRE(chmod(path.c_str(), mode) == 0);
    }
};

std::string refusal(const std::string& path) {
    try {
        AuthFile file(path);
    } catch (const std::exception& e) {
        return e.what();
    }
    return "";
}

// What is said of such a text, without the file's name.
std::string wrong(const std::string& text) {
    Written file(text);
    const auto why = refusal(file.path);
    if (why.empty()) return "";
    REQUIRE(why.starts_with(file.path + ": "));
    return why.substr(file.path.size() + 2);
}

bool plain(const std::shared_ptr<Accounts>& accounts, const std::string& user, const std::string& password) {
    Line line;
    Sasl sasl(accounts);
    auto step = sasl.begin("PLAIN", line.channel)->step("\0"s + user + "\0"s + password);
    return step.is == Is::success && step.user == user;
}

// RFC 7677 3.
const std::string rfc_line =
    "user:{SCRAM-SHA-256}4096$W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

}  // namespace

TEST_CASE("a line holds a password, or the keys of one") {
    Written written("# who may send\n\ntim:tanstaaf tanstaaf \r\n  \n" + rfc_line + "\nempty-end:a:b:c");
    auto file = std::make_shared<AuthFile>(written.path);
    CHECK(file->users() == 3);
    CHECK(file->clear_password("tim") == "tanstaaf tanstaaf ");
    CHECK(file->clear_password("empty-end") == "a:b:c");
    CHECK(file->clear_password("user") == std::nullopt);
    CHECK(file->clear_password("nobody") == std::nullopt);
    CHECK(file->keys("user")->iterations == 4096);
    CHECK(file->keys("tim") == std::nullopt);
    CHECK(plain(file, "user", "pencil"));
    CHECK(plain(file, "tim", "tanstaaf tanstaaf "));
    CHECK_FALSE(plain(file, "tim", "tanstaaf tanstaaf"));
    CHECK_FALSE(plain(file, "Tim", "tanstaaf tanstaaf "));
    CHECK_FALSE(plain(file, "user", "pencil "));
    CHECK_FALSE(plain(file, "nobody", "pencil"));
}

TEST_CASE("the keys of RFC 7677's example are those of its password") {
    const auto keys = scram_keys("pencil", 4096, "\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81");
    Written written(rfc_line);
    const auto read = AuthFile(written.path).keys("user");
    REQUIRE(read);
    CHECK(read->salt == keys.salt);
    CHECK(read->stored_key == keys.stored_key);
    CHECK(read->server_key == keys.server_key);
}

TEST_CASE("keys are written as text and read again; a salt that nobody names is random") {
    const auto keys = scram_keys("pencil");
    CHECK(keys.iterations == 4096);
    CHECK(keys.salt.size() == 16);
    CHECK(keys.salt != scram_keys("pencil").salt);
    const auto text = keys.str();
    const auto read = ScramKeys::parse(text);
    REQUIRE(read);
    CHECK(read->str() == text);
    CHECK(read->iterations == keys.iterations);
    CHECK(read->salt == keys.salt);
    CHECK(read->stored_key == keys.stored_key);
    CHECK(read->server_key == keys.server_key);
    const auto body = text.substr(text.find('}') + 1);
    for (const std::string& wrong :
         {std::string(), std::string("{SCRAM-SHA-256}"), body, "{SCRAM-SHA-1}" + body, text + '\n', ' ' + text,
          text.substr(0, text.size() - 4), "{SCRAM-SHA-256}0" + body.substr(4),
          "{SCRAM-SHA-256}1000001" + body.substr(4), "{SCRAM-SHA-256}-1" + body.substr(4),
          "{SCRAM-SHA-256}4096$" + body.substr(body.find(':'))}) {
        CAPTURE(wrong);
        CHECK(!ScramKeys::parse(wrong));
    }
}

TEST_CASE("a made line lets its user in, by SCRAM and PLAIN, and does not hold the password") {
    const auto line = auth_line("tim", "tanstaaftanstaaf", 4096);
    CHECK(line.starts_with("tim:{SCRAM-SHA-256}4096$"));
    CHECK(line.find("tanstaaf") == line.npos);
    CHECK(line != auth_line("tim", "tanstaaftanstaaf", 4096));
    Written written(line + "\n" + auth_line("m\xc3\xbcller", "gr\xc3\xbc\xc3\x9f dich: {x}") + "\n");
    auto file = std::make_shared<AuthFile>(written.path);
    Sasl sasl(file);
    Line channel;
    CHECK(ok(play(sasl, channel, SaslLogin("tim", "tanstaaftanstaaf"), channel)));
    CHECK(ok(play(sasl, channel, SaslLogin("mu\xcc\x88ller", "gru\xcc\x88\xc3\x9f dich: {x}"), channel)));
    CHECK_FALSE(play(sasl, channel, SaslLogin("tim", "Tanstaaftanstaaf"), channel).success);
    CHECK(plain(file, "tim", "tanstaaftanstaaf"));
}

TEST_CASE("a line that could not be read again is not made") {
    for (const char* user : {"", "a:b", "#a", " a", "a\nb", "a\r", "\xff"}) {
        CAPTURE(user);
        CHECK_THROWS_AS(auth_line(user, "p"), std::invalid_argument);
    }
    for (const auto& password : {""s, "a\nb"s, "a\0b"s, "\xff"s, std::string(1025, 'p')}) {
        CAPTURE(password);
        CHECK_THROWS_AS(auth_line("u", password), std::invalid_argument);
    }
    CHECK_THROWS_AS(auth_line(std::string(1024, 'u'), "p", 4096), std::invalid_argument);
    CHECK_THROWS_AS(auth_line("u", "p", 4095), std::invalid_argument);
    CHECK_THROWS_AS(auth_line("u", "p", 1'000'001), std::invalid_argument);
}

TEST_CASE("what is offered depends on what every line holds") {
    Line line;
    const auto kept = [](const std::string& text) { return AuthFile(Written(text).path).proofs().kept; };
    CHECK(kept("a:b\nc:d\n") == Kept::passwords);
    CHECK(kept("a:b\n" + rfc_line) == Kept::either);
    CHECK(kept(rfc_line) == Kept::keys);
    CHECK(kept("") == Kept::keys);
    CHECK(kept("# nobody\n") == Kept::keys);
    Written written("a:b\n");
    CHECK(std::ranges::count(Sasl(std::make_shared<AuthFile>(written.path)).mechanisms(line.channel), "CRAM-MD5") == 1);
    written.write("a:b\n" + rfc_line);
    CHECK(std::ranges::count(Sasl(std::make_shared<AuthFile>(written.path)).mechanisms(line.channel), "CRAM-MD5") == 0);
}

TEST_CASE("who is not in the file looks like most who are") {
    Written written(auth_line("a", "p", 5000) + "\n" + auth_line("b", "p", 5000) + "\n" + auth_line("c", "p", 6000) +
                    "\nd:p\n" +
                    "e:{SCRAM-SHA-256}7000$c2FsdA==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n");
    const auto proofs = AuthFile(written.path).proofs();
    CHECK(proofs.iterations == 5000);
    CHECK(proofs.salt == 16);
}

TEST_CASE("a wrong line is named by its number, and nothing that it holds is told") {
    CHECK(wrong("a:hidden\nhidden\n") == "line 2 has no ':'");
    CHECK(wrong("\n#\n:hidden\n") == "line 3 has no valid user name");
    CHECK(wrong(" a:hidden\n") == "line 1 has no valid user name");
    CHECK(wrong("a\x01:hidden\n") == "line 1 has no valid user name");
    CHECK(wrong("\xff:hidden\n") == "line 1 has no valid user name");
    CHECK(wrong("a:\n") == "line 1 has no valid password");
    CHECK(wrong("a:hid\0den\n"s) == "line 1 has no valid password");
    CHECK(wrong("a:hid\xff"
                "den\n") == "line 1 has no valid password");
    CHECK(wrong("a:hidden\r\r\n") == "line 1 has no valid password");
    CHECK(wrong("a:1\nb:2\na:hidden\n") == "line 3 has a user who is there already");
    CHECK(wrong("gr\xc3\xbc\xc3\x9f:1\ngru\xcc\x88\xc3\x9f:hidden\n") == "line 2 has a user who is there already");
    CHECK(wrong("a:{SHA512-CRYPT}$6$hidden\n") == "line 1 has a scheme other than {SCRAM-SHA-256}");
    CHECK(wrong("a:{SCRAM-SHA-1}hidden\n") == "line 1 has a scheme other than {SCRAM-SHA-256}");
    CHECK(wrong("a:{scram-sha-256}hidden\n") == "line 1 has a scheme other than {SCRAM-SHA-256}");
    for (const std::string hash : {"{}x", "{a b}", "{", "{SCRAM-SHA-256", "$6$salt$hidden", "$y$", "*", "!", "!!"})
        CHECK(wrong("a:" + hash + '\n') == "line 1 has a scheme other than {SCRAM-SHA-256}");
    CHECK(wrong("a:$5\nb:**\nc:!a\n") == "");
    CHECK(wrong("\xef\xbb\xbf# a:hidden\n") == "line 1 has no valid user name");  // a byte order mark
}

TEST_CASE("keys that are not whole are refused") {
    const std::string keys = rfc_line.substr(rfc_line.find('4')), line = "a:{SCRAM-SHA-256}";
    CHECK(wrong(line + keys) == "");
    const auto replaced = [&](const std::string& from, const std::string& to) {
        auto text = keys;
        return line + text.replace(text.find(from), from.size(), to);
    };
    for (const auto& text :
         {line, line + "x", replaced("4096", "0"), replaced("4096", ""), replaced("4096", "-4096"),
          replaced("4096", "4096x"), replaced("4096", "1000001"), replaced("4096", "99999999999"), replaced("$", ":"),
          replaced("W22ZaJ0SNY7soEsUEjb6gQ==", ""), replaced("gQ==", "gQ="), replaced("W22Z", "W2 Z"),
          replaced("WG5d", ""), replaced("wfPL", ""), replaced("wfPL", "wfPLwfPL"), line + keys + ":",
          line + keys + " ", replaced(":wfPL", "wfPL")}) {
        CAPTURE(text);
        CHECK(wrong(text) == "line 1 has no valid SCRAM-SHA-256 keys");
    }
}

TEST_CASE("lines, users and the file have limits") {
    CHECK(wrong("a:" + std::string(1022, 'p')) == "");
    CHECK(wrong("a:" + std::string(1023, 'p')) == "line 1 is longer than 1024 octets");
    std::string many;
    for (int i = 0; i < 100'000; ++i) many += std::to_string(i) + ":p\n";
    CHECK(wrong(many) == "");
    CHECK(wrong(many + "a:p\n") == "line 100001 is one user too many: 100,000 are allowed");
    const std::string comment = "#" + std::string(1022, 'x') + "\n";
    std::string large;
    while (large.size() < (16 << 20)) large += comment;
    CHECK(wrong(large) == "");
    CHECK(wrong(large + "\n") == "is longer than 16 MiB");
}

TEST_CASE("a file that others may read or write is refused with that reason") {
    Written written("a:b\n");
    for (mode_t mode : {0604, 0602, 0601, 0640, 0620, 0610, 0666, 0777}) {
        CAPTURE(mode);
        written.write("a:b\n", mode);
        CHECK(refusal(written.path).find("others may read or write it") != std::string::npos);
    }
    for (mode_t mode : {0600, 0400, 0700}) {
        CAPTURE(mode);
        REQUIRE(chmod(written.path.c_str(), mode) == 0);
        CHECK(refusal(written.path) == "");
    }
}

TEST_CASE("only a regular file is read") {
    Folder folder;
    const auto path = folder.path + "/accounts";
    CHECK_THROWS_AS(AuthFile{path}, std::system_error);
    CHECK(refusal(path).find(path) != std::string::npos);
    REQUIRE(chmod(folder.path.c_str(), 0700) == 0);
    CHECK(refusal(folder.path).find("is not a regular file") != std::string::npos);
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    CHECK(refusal(path).find("is not a regular file") != std::string::npos);
    CHECK(refusal("/dev/null").find("is not a regular file") != std::string::npos);
}

TEST_CASE("what a symbolic link leads to counts") {
    Written written("a:b\n");
    const auto link = written.folder.path + "/link";
    REQUIRE(symlink(written.path.c_str(), link.c_str()) == 0);
    CHECK(refusal(link) == "");
    written.write("a:b\n", 0644);
    CHECK(refusal(link).find("others may read") != std::string::npos);
    REQUIRE(unlink(written.path.c_str()) == 0);
    CHECK_THROWS_AS(AuthFile{link}, std::system_error);
}

TEST_CASE("another user's file is refused" * doctest::skip(geteuid() != 0)) {
    Written written("a:b\n");
    REQUIRE(chown(written.path.c_str(), 65534, 65534) == 0);
    CHECK(refusal(written.path).find("belongs to another user") != std::string::npos);
}

TEST_CASE("a new reading is whole, or changes nothing") {
    Written written("a:old\n");
    auto file = std::make_shared<AuthFile>(written.path);
    Sasl sasl(file);
    Line line;
    written.write("a:new\n" + rfc_line + "\n");
    CHECK(plain(file, "a", "old"));
    file->reload();
    CHECK(plain(file, "a", "new"));
    CHECK_FALSE(plain(file, "a", "old"));
    CHECK(plain(file, "user", "pencil"));
    CHECK_FALSE(sasl.begin("CRAM-MD5", line.channel));

    for (const char* bad : {"a:other\nbad\n", "a:other\na:other\n"}) {
        written.write(bad);
        CHECK_THROWS_AS(file->reload(), std::runtime_error);
    }
    written.write("a:other\n", 0644);
    CHECK_THROWS_AS(file->reload(), std::runtime_error);
    REQUIRE(unlink(written.path.c_str()) == 0);
    CHECK_THROWS_AS(file->reload(), std::system_error);
    CHECK(file->users() == 2);
    CHECK(plain(file, "a", "new"));
}

TEST_CASE("threads may ask while it is read again") {
    Written written("a:b\n");
    auto file = std::make_shared<AuthFile>(written.path);
    Sasl sasl(file);
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] {
            Line line;
            for (int i = 0; i < 20; ++i)
                if (!ok(play(sasl, line, SaslLogin("a", "b"), line))) ++wrong;
        });
    for (int i = 0; i < 50; ++i) file->reload();
    for (auto& t : threads) t.join();
    CHECK(wrong == 0);
}
