// message -- tests of Message: its octets by every way out, its headers, and that save() holds what it says.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <random>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

#include "../Server/Content.hpp"
#include "../Server/Files.hpp"
#include "../Server/Message.hpp"

using namespace Net::SMTP;
using namespace std::string_literals;
namespace fs = std::filesystem;

namespace {

// A folder of its own, gone at the end.
struct Folder {
    Folder() {
        auto name = (fs::temp_directory_path() / "message-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()));
        path = name;
    }
    ~Folder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    std::string operator/(const std::string& name) const { return path + '/' + name; }
    std::size_t files() const { return std::size_t(std::distance(fs::directory_iterator(path), {})); }
    std::string path;
};

std::string content_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

unsigned mode_of(const std::string& path) {
    struct stat s {};
    return stat(path.c_str(), &s) == 0 ? s.st_mode & 07777 : 0;
}

std::string octets(std::size_t size) {
    std::mt19937 random{unsigned(size)};
    std::string out(size, ' ');
    for (auto& c : out) c = char(random());
    return out;
}

Message in_file(const std::string& text, const std::string& folder) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file(folder);
    write_all(content->file.get(), text.data(), text.size());
    content->size = text.size();
    return Message(content);
}

Message in_sink(std::uint64_t size) {
    auto content = std::make_shared<Content>(nullptr);
    content->sunk = true;
    content->size = size;
    return Message(content);
}

// As a session has it: somebody waits for the answer.
Message waited_for(Message message) {
    const std::vector<Recipient> to(1);
    message.custody().open(to);
    return message;
}

// The same message in memory and in a file.
template <class Each>
void both(const std::string& text, Each each) {
    Folder spool;
    for (const auto& message : {Message(text), in_file(text, spool.path)}) {
        CAPTURE(message.spooled());
        each(message);
    }
}

// The error number save() or write_to() fails with; 0: it does not.
int error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const std::system_error& e) {
        return e.code().value();
    }
    return 0;
}

// What a process of its own makes of it, for limits that would be everybody's.
int in_child(const std::function<int()>& action) {
    std::fflush(nullptr);  // or the child might print it again
    const auto child = fork();
    if (child == 0) {
        int result = 200;
        try {
            result = action();
        } catch (...) {
        }
        _exit(result);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::size_t descriptors() { return std::size_t(std::distance(fs::directory_iterator("/proc/self/fd"), {})); }

const std::size_t sizes[] = {0, 1, 65535, 65536, 65537, 300'001};

}  // namespace

TEST_CASE("a message shows its octets, wherever they are") {
    for (auto size : sizes) {
        const auto text = octets(size);
        both(text, [&](const Message& m) {
            CAPTURE(size);
            CHECK(m.size() == size);
            CHECK(m.empty() == (size == 0));
            CHECK((m.view() == text));
            CHECK((std::string_view(m) == text));
            CHECK(!m.sunk());
            const auto copy = m;
            CHECK(copy.view().data() == m.view().data());
        });
    }
    CHECK(Message().view().empty());
    CHECK(Message().size() == 0);
    CHECK(Message("").empty());
}

TEST_CASE("a message of your own has no history and nobody waits for it") {
    const Message m("text"), empty;
    for (const auto* each : {&m, &empty}) {
        CHECK(each->id() == "");
        CHECK(each->received_at() == 0);
        CHECK(each->trace().helo == "");
        CHECK(each->sender_present());
        CHECK(!each->custody().attached());
        CHECK(!each->baggage().has_value());
        CHECK(!each->spooled());
    }
    empty.baggage() = 7;
    CHECK(std::any_cast<int>(empty.baggage()) == 7);
    auto content = std::make_shared<Content>(nullptr);
    bool present = true;
    content->sender_present = [&] { return present; };
    const Message waited(content);
    CHECK(waited.sender_present());
    present = false;
    CHECK(!waited.sender_present());
}

TEST_CASE("a message outlives those it was copied from") {
    Folder spool;
    std::optional<Message> copy;
    std::unique_ptr<std::istream> stream;
    {
        const auto m = in_file("a\r\nb\r\n", spool.path);
        copy = m;
        stream = m.stream();
    }
    CHECK(copy->view() == "a\r\nb\r\n");
    copy.reset();
    std::string line;
    CHECK(std::getline(*stream, line));
    CHECK(line == "a\r");
    CHECK(spool.files() == 0);
}

TEST_CASE("read gives what is asked for, and less only at the end") {
    for (auto size : sizes) {
        const auto text = octets(size);
        both(text, [&](const Message& m) {
            std::mt19937 random(1);
            for (int round = 0; round < 200; ++round) {
                const auto offset = random() % (size + 10), wanted = std::size_t(random() % (size + 10));
                std::string got(wanted + 1, '#');
                const auto n = m.read(offset, got.data(), wanted);
                const auto expected = offset >= size ? "" : text.substr(offset, wanted);
                if (n != expected.size() || got.substr(0, n) != expected || got.back() != '#')
                    FAIL_CHECK(offset << " " << wanted);
            }
            char c = '#';
            CHECK(m.read(size, &c, 1) == 0);
            CHECK(m.read(UINT64_MAX, &c, 1) == 0);
            CHECK(m.read(0, &c, 0) == 0);
            if (size > 0) CHECK(m.read(size - 1, &c, 10) == 1);
        });
    }
    char c;
    CHECK(Message().read(0, &c, 1) == 0);
    CHECK(in_sink(5).read(0, &c, 1) == 0);
}

TEST_CASE("a file that became shorter is an error, not a shorter message") {
    Folder spool;
    const auto text = octets(100'000);
    const auto m = in_file(text, spool.path);
    REQUIRE(ftruncate(m.content()->file.get(), 99'999) == 0);
    std::string buffer(100'000, ' ');
    CHECK(error_of([&] { m.read(0, buffer.data(), buffer.size()); }) == EIO);
    const auto stream = m.stream();
    std::ostringstream all;
    all << stream->rdbuf();
    CHECK((!*stream || !all || all.str().size() < 100'000));
    stream->clear();
    stream->seekg(99'990);
    while (stream->get() != EOF) {
    }
    CHECK(stream->bad());
    int to[2];
    REQUIRE(pipe2(to, O_CLOEXEC) == 0);
    Descriptor in(to[0]), out(to[1]);
    std::jthread reader([&] {
        char waste[4096];
        while (read(in.get(), waste, sizeof waste) > 0) {
        }
    });
    CHECK(error_of([&] { m.write_to(out.get()); }) == EIO);
    out.reset();
}

TEST_CASE("a stream over a message does what a stream over a string does") {
    for (auto size : sizes) {
        const auto text = octets(size);
        both(text, [&](const Message& m) {
            CAPTURE(size);
            std::istringstream expected(text);
            const auto stream = m.stream();
            std::mt19937 random(2);
            for (int round = 0; round < 400; ++round) {
                expected.clear();
                stream->clear();
                const auto by =
                    std::streamoff(random() % (size + 20)) - std::streamoff(random() % 3 ? 0 : size / 2 + 5);
                const auto what = random() % 6;
                std::string a(random() % 3000, '#'), b = a;
                switch (what) {
                    case 0: expected.seekg(by), stream->seekg(by); break;
                    case 1:
                        expected.seekg(by - std::streamoff(size / 2), std::ios::cur),
                            stream->seekg(by - std::streamoff(size / 2), std::ios::cur);
                        break;
                    case 2: expected.seekg(-by, std::ios::end), stream->seekg(-by, std::ios::end); break;
                    case 3: a = std::to_string(expected.get()), b = std::to_string(stream->get()); break;
                    case 4: a = std::to_string(expected.peek()), b = std::to_string(stream->peek()); break;
                    default:
                        expected.read(a.data(), std::streamsize(a.size())),
                            stream->read(b.data(), std::streamsize(b.size()));
                }
                if (a != b || expected.rdstate() != stream->rdstate() || expected.gcount() != stream->gcount() ||
                    (expected.clear(), stream->clear(), expected.tellg() != stream->tellg())) {
                    FAIL_CHECK("step " << round << ", operation " << what << ", by " << by);
                    break;
                }
            }
            // All of it, at odd read sizes.
            for (std::size_t piece : {1, 7, 4096, 65535, 65536, 65537, 1'000'000}) {
                const auto again = m.stream();
                std::string all, part(piece, ' ');
                while (again->read(part.data(), std::streamsize(piece)) || again->gcount() > 0)
                    all.append(part, 0, std::size_t(again->gcount()));
                CHECK((all == text));
                CHECK(again->eof());
                if (piece == 1 && size > 70'000) break;
            }
            stream->clear();
            stream->seekg(0);
            stream->get();
            stream->clear();
            CHECK(!stream->seekg(std::numeric_limits<std::streamoff>::max(), std::ios::cur));
            stream->clear();
            CHECK(!stream->seekg(std::numeric_limits<std::streamoff>::min(), std::ios::end));
        });
    }
    CHECK(Message().stream()->get() == EOF);
    CHECK(in_sink(100).stream()->get() == EOF);
}

TEST_CASE("a header field is found by its name and unfolded") {
    const auto text =
        "Received: from a\r\n\tby b;\r\n Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        "Received: second\r\n"
        "Subject:  spaces  around  \r\n"
        "Empty:\r\n"
        "Blank: \t \r\n"
        "Folded-first:\r\n value\r\n"
        "Folded-blank: a\r\n \r\n b\r\n"
        "Old : with a blank before the colon\r\n"
        "Colons: a: b: c\r\n"
        "Nul: a\0b\r\n"
        "Eight: \xE9\xFF\r\n"
        "no colon in this line\r\n"
        "nor in this one\r\n but: in its second\r\n"
        "X-Subject: other\r\n"
        "Sub: prefix\r\n"
        ": no name\r\n"
        "RECEIVED:third\r\n"
        "\r\n"
        "Body: is no header\r\n"s;
    both(text, [&](const Message& m) {
        struct Row {
            const char* name;
            std::optional<std::string> value;
        };
        const Row rows[] = {
            {"Subject", "spaces  around"},
            {"subject", "spaces  around"},
            {"SUBJECT", "spaces  around"},
            {"Received", "from a\tby b; Mon, 1 Jan 2024 00:00:00 +0000"},
            {"Empty", ""},
            {"Blank", ""},
            {"Folded-First", "value"},
            {"Folded-blank", "a  b"},
            {"Old", "with a blank before the colon"},
            {"Colons", "a: b: c"},
            {"Nul", "a\0b"s},
            {"Eight", "\xE9\xFF"},
            {"Sub", "prefix"},
            {"X-Subject", "other"},
            {"Body", {}},
            {"Missing", {}},
            {"but", {}},
            {"Subject:", {}},
            {"no colon in this line", {}},
            {"Subjec", {}},
            {"Subject ", {}},
        };
        for (const auto& r : rows) {
            CAPTURE(std::string(r.name));
            CHECK(m.header(r.name) == r.value);
            CHECK(m.headers(r.name).empty() == !r.value);
        }
        CHECK(m.headers("received") ==
              std::vector<std::string>{"from a\tby b; Mon, 1 Jan 2024 00:00:00 +0000", "second", "third"});
    });
}

TEST_CASE("odd headers are no danger") {
    struct Row {
        std::string text;
        std::optional<std::string> subject;
    };
    const Row rows[] = {
        {"", {}},
        {"\r\n", {}},
        {"\r\nSubject: x\r\n", {}},
        {"Subject", {}},
        {"Subject:", ""},
        {"Subject: x", "x"},
        {"Subject: x\r", "x"},
        {"Subject: x\r\n", "x"},
        {"Subject: x\r\n ", "x"},
        {"Subject: x\r\n\r\n", "x"},
        {" Subject: x\r\n", {}},
        {" \r\nSubject: x\r\n", "x"},
        {" continued\r\nSubject: x\r\n", "x"},
        {":\r\nSubject: x\r\n", "x"},
        {"From a@b Mon 00:00:00 2024\r\nSubject: x\r\n", "x"},
        {"Subject: x\r\nSubject: y\r\n", "x"},
        {"Subject: x\r\n y", "x y"},
        {"A: b\r\n\r\nSubject: x\r\n", {}},
        {"A: b\r\n\t\r\nSubject: x\r\n", "x"},
        {"Sub\r\n ject: x\r\n", {}},
        {"Sub ject: x\r\n", {}},
        {"Subject\0: x\r\n"s, {}},
        {std::string(100'000, 'a') + "\r\nSubject: x\r\n", "x"},
        {"A: " + std::string(100'000, ' ') + "\r\nSubject: x\r\n", "x"},
    };
    for (const auto& r : rows)
        both(r.text, [&](const Message& m) {
            CAPTURE(r.text.substr(0, 60));
            CHECK(m.header("Subject") == r.subject);
        });
    CHECK(!Message().header("Subject"));
    CHECK(!in_sink(100).header("Subject"));
}

TEST_CASE("headers are sought in the first MiB only") {
    const std::string filler = "A: " + std::string(95, 'x') + "\r\n", field = "Subject: x\r\n";
    const std::size_t most = 1 << 20;
    for (const auto at : {most - field.size(), most}) {
        std::string text;
        while (text.size() + filler.size() <= at) text += filler;
        if (text.size() < at) text.insert(3, at - text.size(), 'y');
        REQUIRE(text.size() == at);
        both(text + field, [&](const Message& m) { CHECK(m.header("Subject").has_value() == (at < most)); });
    }
}

TEST_CASE("a CR or LF that stands alone is found, also where pieces meet") {
    for (auto before : {0, 1, 65534, 65535, 65536, 131'071}) {
        const std::string start(std::size_t(before), 'a');
        struct Row {
            const char* end;
            bool bare;
        };
        for (const Row& r : {Row{"", false},
                             {"\r\n", false},
                             {"\r\n\r\nb", false},
                             {"\r", true},
                             {"\n", true},
                             {"\rb", true},
                             {"\nb", true},
                             {"\r\r\n", true},
                             {"\r\n\n", true},
                             {"\r\n\r", true}})
            both(start + r.end, [&](const Message& m) {
                CHECK(m.bare_line_ends() == r.bare);
                CHECK(m.bare_line_ends() == r.bare);
            });
    }
    CHECK(!Message().bare_line_ends());
}

TEST_CASE("several threads may look at one message at once") {
    const auto text = octets(300'001);
    both(text, [&](const Message& m) {
        std::atomic<int> right = 0;
        std::vector<std::jthread> all;
        for (int i = 0; i < 8; ++i)
            all.emplace_back([&, copy = m] {
                std::string part(1000, ' ');
                part.resize(copy.read(150'000, part.data(), part.size()));
                right += copy.bare_line_ends() && m.view() == text && part == text.substr(150'000, 1000);
            });
        all.clear();
        CHECK(right == 8);
    });
}

TEST_CASE("write_to writes all, to a file, a pipe and a socket, and takes nothing") {
    for (auto size : sizes) {
        const auto text = octets(size);
        both(text, [&](const Message& spoken) {
            const auto m = waited_for(spoken);
            Folder folder;
            {
                // Behind what is there, at the place of the descriptor; twice is twice.
                Descriptor fd(open((folder / "file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
                write_all(fd.get(), "before", 6);
                m.write_to(fd.get());
                m.write_to(fd.get());
                CHECK((content_of(folder / "file") == "before" + text + text));
                Descriptor appended(open((folder / "file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
                m.write_to(appended.get());
                CHECK((content_of(folder / "file") == "before" + text + text + text));
            }
            for (bool socket : {false, true}) {
                int ends[2];
                REQUIRE((socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) : pipe2(ends, O_CLOEXEC)) ==
                        0);
                Descriptor in(ends[0]), out(ends[1]);
                std::string got;
                {
                    std::jthread reader([&] {
                        char part[5000];
                        for (ssize_t n; (n = read(in.get(), part, sizeof part)) > 0;) got.append(part, std::size_t(n));
                    });
                    m.write_to(out.get());
                    out.reset();
                }
                CHECK((got == text));
            }
            CHECK(m.custody().verdict().text == "Nobody took the message");
        });
    }
    Message().write_to(-1);
}

TEST_CASE("write_to says so when not all could be written") {
    both(octets(300'000), [&](const Message& m) {
        Descriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
        CHECK(error_of([&] { m.write_to(full.get()); }) == ENOSPC);
        CHECK(error_of([&] { m.write_to(-1); }) == EBADF);
        Descriptor reading(open("/dev/null", O_RDONLY | O_CLOEXEC));
        CHECK(error_of([&] { m.write_to(reading.get()); }) == EBADF);

        int ends[2];
        REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
        Descriptor in(ends[0]), out(ends[1]);
        in.reset();
        const auto old = std::signal(SIGPIPE, SIG_IGN);
        CHECK(error_of([&] { m.write_to(out.get()); }) == EPIPE);
        std::signal(SIGPIPE, old);
    });
}

TEST_CASE("save makes a new file of exactly these octets, and takes the message") {
    for (auto size : sizes) {
        const auto text = octets(size);
        both(text, [&](const Message& spoken) {
            const auto m = waited_for(spoken);
            Folder folder;
            const auto open_before = descriptors();
            m.save(folder / "mail");
            CHECK(descriptors() == open_before);
            CHECK((content_of(folder / "mail") == text));
            CHECK(folder.files() == 1);
            CHECK(m.custody().verdict().code == 250);
            CHECK((m.view() == text));
            // Once more, under another name, and again when the first has gone.
            m.save(folder / "second");
            fs::remove(folder / "mail");
            fs::remove(folder / "second");
            m.save(folder / "third");
            CHECK((content_of(folder / "third") == text));
            CHECK(folder.files() == 1);
            CHECK(m.custody().verdict().code == 250);
        });
    }
    Folder folder;
    Message().save(folder / "empty");
    CHECK(content_of(folder / "empty") == "");
    CHECK(fs::exists(folder / "empty"));
    // In the folder one is in, and from another file system, where it cannot be linked.
    both("text", [&](const Message& m) {
        Folder here;
        CHECK(in_child([&] {
                  if (chdir(here.path.c_str()) != 0) return 1;
                  m.save("relative");
                  m.save("./dotted");
                  return 0;
              }) == 0);
        CHECK(content_of(here / "relative") == "text");
        CHECK(content_of(here / "dotted") == "text");
    });
    if (access("/dev/shm", W_OK) == 0) {
        const auto m = waited_for(in_file(octets(300'000), "/dev/shm"));
        m.save(folder / "from elsewhere", 0640);
        CHECK((content_of(folder / "from elsewhere") == octets(300'000)));
        CHECK(mode_of(folder / "from elsewhere") == 0640);
        CHECK(m.custody().verdict().code == 250);
    }
}

TEST_CASE("a saved file has the mode asked for, less the umask") {
    struct Row {
        unsigned mask, mode, expected;
    };
    for (const Row& r : {Row{022, 0644, 0644},
                         {022, 0666, 0644},
                         {077, 0644, 0600},
                         {0, 0666, 0666},
                         {022, 0600, 0600},
                         {022, 0400, 0400},
                         {027, 0640, 0640},
                         {0, 0777, 0777}}) {
        CAPTURE(r.mask);
        CAPTURE(r.mode);
        const auto old = umask(r.mask);
        both("text", [&](const Message& m) {
            Folder folder;
            m.save(folder / "mail", r.mode);
            CHECK(mode_of(folder / "mail") == r.expected);
        });
        umask(old);
    }
}

TEST_CASE("each of several saved files has its own mode") {
    both("text", [&](const Message& m) {
        Folder folder;
        m.save(folder / "secret", 0600);
        m.save(folder / "public", 0644);
        m.save(folder / "also secret", 0600);
        CHECK(mode_of(folder / "secret") == 0600);
        CHECK(mode_of(folder / "public") == 0644);
        CHECK(mode_of(folder / "also secret") == 0600);
    });
}

TEST_CASE("a save that failed leaves the next one its mode") {
    both("text", [&](const Message& m) {
        Folder folder;
        std::ofstream(folder / "taken") << "old";
        CHECK(error_of([&] { m.save(folder / "taken", 0600); }) == EEXIST);
        CHECK(error_of([&] { m.save(folder / "missing/mail", 0400); }) == ENOENT);
        m.save(folder / "free", 0644);
        CHECK(mode_of(folder / "free") == 0644);
        CHECK(content_of(folder / "free") == "text");
    });
}

TEST_CASE("writing into one saved file changes no other") {
    both("text", [&](const Message& m) {
        Folder folder;
        m.save(folder / "a");
        m.save(folder / "b");
        std::ofstream(folder / "a", std::ios::app) << "more";
        CHECK(content_of(folder / "a") == "textmore");
        CHECK(content_of(folder / "b") == "text");
    });
}

TEST_CASE("a name that is taken stays what it was, and the sender hears 452") {
    both("new", [&](const Message& spoken) {
        Folder folder;
        std::ofstream(folder / "file") << "old";
        REQUIRE(mkdir((folder / "folder").c_str(), 0700) == 0);
        REQUIRE(symlink("nowhere", (folder / "dangling").c_str()) == 0);
        REQUIRE(symlink("file", (folder / "link").c_str()) == 0);
        for (const std::string name : {"file", "folder", "dangling", "link"}) {
            CAPTURE(name);
            const auto m = waited_for(spoken);
            CHECK(error_of([&] { m.save(folder / name); }) == EEXIST);
            CHECK(m.custody().verdict() == Reply{452, "4.3.1", "The message could not be stored"});
            // Whatever the program does next.
            m.custody().begin();
            m.custody().settle({250, "2.0.0", "Accepted"});
            m.save(folder / ("other " + name));
            CHECK(m.custody().verdict().code == 452);
        }
        CHECK(content_of(folder / "file") == "old");
        CHECK(!fs::exists(folder / "nowhere"));
        CHECK(folder.files() == 8);
    });
}

TEST_CASE("where no file can be there is none, and the sender hears 452") {
    both("text", [&](const Message& spoken) {
        Folder folder;
        std::ofstream(folder / "file") << "old";
        struct Row {
            std::string path;
            int error;
        };
        const Row rows[] = {{folder / "missing/mail", ENOENT},
                            {folder / "file/mail", ENOTDIR},
                            {folder / std::string(256, 'n'), ENAMETOOLONG},
                            {"", 0},
                            {folder / "", 0}};
        for (const auto& r : rows) {
            CAPTURE(r.path);
            const auto m = waited_for(spoken);
            const auto open_before = descriptors();
            const auto error = error_of([&] { m.save(r.path); });
            CHECK(error != 0);
            if (r.error) CHECK(error == r.error);
            CHECK(m.custody().verdict().code == 452);
            CHECK(descriptors() == open_before);
        }
        CHECK(folder.files() == 1);
        CHECK(content_of(folder / "file") == "old");
    });
}

TEST_CASE("a full disk leaves no half file, and the sender hears 452") {
    const std::size_t limit = 100'000;
    std::vector<std::string> spools{""};                              // in memory
    if (access("/dev/shm", W_OK) == 0) spools.push_back("/dev/shm");  // in a file that must be copied
    for (const auto& spool : spools)
        for (std::size_t size : {limit - 1, limit, limit + 1, 5 * limit}) {
            CAPTURE(spool);
            CAPTURE(size);
            Folder folder;
            const auto text = octets(size);
            const auto m = waited_for(spool.empty() ? Message(text) : in_file(text, spool));
            const int result = in_child([&] {
                std::signal(SIGXFSZ, SIG_IGN);
                const rlimit most{limit, limit};
                if (setrlimit(RLIMIT_FSIZE, &most) != 0) return 1;
                const auto error = error_of([&] { m.save(folder / "mail"); });
                const auto code = m.custody().verdict().code;
                return error == 0 && code == 250 ? 100 : error == EFBIG && code == 452 ? 101 : 2;
            });
            CHECK(result == (size <= limit ? 100 : 101));
            CHECK(folder.files() == (size <= limit ? 1 : 0));
            if (size <= limit) CHECK((content_of(folder / "mail") == text));
        }
}

TEST_CASE("without descriptors nothing is saved, and the sender hears 452") {
    both("text", [&](const Message& spoken) {
        Folder folder;
        const auto m = waited_for(spoken);
        CHECK(in_child([&] {
                  const int next = dup(0);
                  close(next);
                  const rlimit most{rlim_t(next), rlim_t(next)};
                  if (setrlimit(RLIMIT_NOFILE, &most) != 0) return 1;
                  const auto error = error_of([&] { m.save(folder / "mail"); });
                  return error == EMFILE && m.custody().verdict().code == 452 ? 0 : 2;
              }) == 0);
        CHECK(folder.files() == 0);
    });
}

TEST_CASE("after the answer nothing can be saved any more") {
    both("text", [&](const Message& spoken) {
        Folder folder;
        const auto m = waited_for(spoken);
        m.custody().close();
        CHECK_THROWS_AS(m.save(folder / "mail"), std::logic_error);
        CHECK(folder.files() == 0);
    });
}

TEST_CASE("a message that went into a sink is counted, but cannot be shown or saved") {
    Folder folder;
    const auto m = waited_for(in_sink(1000));
    CHECK(m.sunk());
    CHECK(m.size() == 1000);
    CHECK(m.view().empty());
    CHECK_THROWS_AS(m.save(folder / "mail"), std::logic_error);
    CHECK(folder.files() == 0);
    CHECK(!m.custody().verdict().positive());
}

TEST_CASE("a message is emptied for the next without a trace of the last") {
    Folder spool;
    const auto m = in_file("text", spool.path);
    CHECK(m.view() == "text");
    auto& content = *m.content();
    content.bare = Content::Bare::yes;
    content.id = "id";
    content.baggage = 1;
    content.sender_present = [] { return false; };
    content.clear();
    CHECK(m.size() == 0);
    CHECK(m.view().empty());
    CHECK(!m.spooled());
    CHECK(m.id().empty());
    CHECK(!m.bare_line_ends());
    CHECK(m.sender_present());
    CHECK(!m.baggage().has_value());
}
