#include "ScriptedServer.hpp"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <tuple>

#include "../Server.hpp"
#include "Octets.hpp"
#include "Wire.hpp"

namespace Net::SMTP::Test {

namespace {

using Clock = std::chrono::steady_clock;
using End = Conversation::End;
using namespace std::chrono_literals;

constexpr auto longest_connection = 30min;
constexpr std::size_t longest_line = 64 * 1024;
constexpr std::size_t most_commands = 100'000;  // of a connection
constexpr std::size_t most_at_once = 256;       // connections
constexpr std::size_t most_connections = 100'000;

enum class Phase { greeting, command, text_end };

// What the server is to answer: a command, or what happens without one.
struct Turn {
    Phase phase;
    std::string command;
    std::optional<Reply> otherwise{};  // in place of the polite answer, where no rule fits
};

const Reply no_recipients{503, "5.5.1", "RCPT first"};

Phase phase_of(std::string_view rule) {
    return rule.empty() ? Phase::greeting : rule[0] == '.' ? Phase::text_end : Phase::command;
}

// The code of the last reply among the octets; 0 when they end with none.
int last_code(std::string_view octets) {
    if (octets.ends_with("\r\n")) octets.remove_suffix(2);
    const auto line = octets.substr(octets.rfind('\n') + 1);  // npos + 1 is 0
    int code = 0;
    const auto end = line.data() + std::min<std::size_t>(3, line.size());
    return std::from_chars(line.data(), end, code).ptr == line.data() + 3 ? code : 0;
}

// The path behind "RCPT TO:".
std::string path_of(std::string_view rcpt) {
    const auto open = rcpt.find('<');
    if (open == rcpt.npos) return std::string(rcpt.substr(std::min<std::size_t>(8, rcpt.size())));
    return std::string(rcpt.substr(open, rcpt.rfind('>') - open + 1));
}

std::string shown(const std::vector<Conversation>& all) {
    std::string out;
    for (const auto& c : all) out += "connection " + std::to_string(c.number) + ":\n" + c.transcript;
    return out;
}

}  // namespace

std::string Conversation::Text::text() const {
    if (chunks) return wire;
    std::string out;
    for (std::size_t at = 0; at < wire.size();) {
        const auto crlf = wire.find("\r\n", at);
        const auto stop = crlf == wire.npos ? wire.size() : crlf + 2;
        if (wire[at] == '.') ++at;
        out.append(wire, at, stop - at);
        at = stop;
    }
    return out;
}

bool Conversation::said(std::string_view beginning) const {
    return std::ranges::any_of(commands, [&](const std::string& c) { return begins(c, beginning); });
}

// ---- a connection ----

struct ScriptedServer::State {
    explicit State(Options o) : options(std::move(o)), server(std::vector<std::string>{options.listen}) {}

    struct Rule {
        When when;
        Act act;
        std::size_t seen = 0;
    };
    struct Session {
        explicit Session(int fd) : wire(fd) {}
        Wire wire;
        Conversation heard;  // with the mutex held
        Transcript transcript;
        std::thread thread{};
        bool over = false;  // the thread has nothing more to do
    };

    const Options options;
    Server server;
    mutable std::mutex mutex;
    mutable std::condition_variable changed;
    bool stopping = false;
    std::vector<Rule> rules, defaults;
    std::deque<Session> sessions;  // references stay good
    std::thread listener;
    std::mutex ending;  // of the listener

    void polite();
    void listen();
    void take(Connection);
    void close();
    void join_ended();
    std::size_t open() const;
    std::vector<Conversation> snapshot() const;
    // What the test wants then; nothing when no rule of its own fits.
    std::optional<Act> wish(const Turn&, std::size_t connection);
    static const Rule* fitting(std::vector<Rule>&, const Turn&, std::size_t connection);
    Act act_for(const Turn&, std::size_t connection);
    class Talk;
};

// The session's thread.
class ScriptedServer::State::Talk {
public:
    Talk(State& state, Session& session) : state_(state), session_(session), wire_(session.wire) {}

    // The whole connection.
    void run();

private:
    struct Over {
        End why;
    };

    void listen();
    // Does what the script says; the code of the last reply in it. Over when that is the end.
    int answer(const Turn&);
    int act(const Act&);
    // The connection counts as over, whatever is still read away.
    void conclude(End);
    void perform(const Act::Step&);
    void say(std::string_view octets, const Pace&, Deadline);
    void encrypt(TLSAcceptor&);
    // Gets more; Over at the end. Recorded, but for what is not to be kept.
    void fill(Deadline);
    std::string command();
    void heard(const std::string& command);
    void text();
    void chunk(const std::string& command);
    void end_of_text(const std::string& command);
    void append(std::string_view octets);
    Deadline patience() const { return std::min(Clock::now() + state_.options.patience, end_); }

    State& state_;
    Session& session_;
    Wire& wire_;
    const Deadline end_ = Clock::now() + longest_connection;
    std::string buffer_;
    bool lmtp_ = false, quit_ = false;
    std::vector<std::string> accepted_;  // paths
    bool chunks_ = false;                // a text by BDAT has begun
    std::size_t kept_ = 0;               // octets
};

void ScriptedServer::State::Talk::run() {
    try {
        listen();
    } catch (const Over& over) {
        conclude(over.why);
    } catch (const std::exception&) {
        conclude(End::excess);  // no memory for it
    }
    wire_.close();
}

void ScriptedServer::State::Talk::conclude(End end) {
    wire_.half_close();  // who waits for the end is to find it at the other end too
    std::lock_guard lock(state_.mutex);
    auto& known = session_.heard.end;
    if (known == End::open) known = quit_ ? End::quit : end;
    state_.changed.notify_all();
}

void ScriptedServer::State::Talk::listen() {
    answer({Phase::greeting, ""});
    for (std::size_t n = 0; n < most_commands; ++n) {
        const auto said = command();
        if (begins(said, "QUIT")) {
            quit_ = true;
            answer({Phase::command, said});
            conclude(End::quit);
            wire_.finish(Clock::now() + 1s);
            return;
        }
        if (begins(said, "BDAT ")) {
            chunk(said);
            continue;
        }
        if (begins(said, "LHLO")) lmtp_ = true;
        if (begins(said, "EHLO") || begins(said, "HELO")) lmtp_ = false;
        if (begins(said, "MAIL") || begins(said, "RSET")) accepted_.clear(), chunks_ = false;
        const bool nobody = lmtp_ && accepted_.empty() && begins(said, "DATA");
        const int code = answer({Phase::command, said, nobody ? std::optional(no_recipients) : std::nullopt});
        if (begins(said, "RCPT") && code >= 200 && code < 300) accepted_.push_back(path_of(said));
        if (begins(said, "DATA") && code == 354) text();
    }
    throw Over{End::excess};
}

int ScriptedServer::State::Talk::answer(const Turn& turn) { return act(state_.act_for(turn, session_.heard.number)); }

int ScriptedServer::State::Talk::act(const Act& steps) {
    int code = 0;
    for (const auto& step : steps.steps_) {
        perform(step);
        if (step.kind == Act::Step::Kind::say) code = last_code(step.octets);
    }
    return code;
}

void ScriptedServer::State::Talk::perform(const Act::Step& step) {
    using Kind = Act::Step::Kind;
    switch (step.kind) {
        case Kind::say: return say(step.octets, step.pace, patience());
        case Kind::wait: {
            std::unique_lock lock(state_.mutex);
            const auto end = Clock::now() + step.time;
            if (state_.changed.wait_until(lock, end, [&] { return state_.stopping; })) throw Over{End::script};
            return;
        }
        case Kind::close:
            conclude(End::script);
            wire_.finish(Clock::now() + 1s);
            throw Over{End::script};
        case Kind::reset: wire_.reset(); throw Over{End::script};
        case Kind::stall:
            for (;;) {
                fill(patience());
                buffer_.clear();
            }
        case Kind::swallow:
            if (buffer_.empty()) fill(patience());
            buffer_.clear();
            return;
        case Kind::encrypt: encrypt(*step.tls); return;
        case Kind::repeat:
            for (const auto end = patience();;) say(step.octets, step.pace, end);
    }
}

void ScriptedServer::State::Talk::say(std::string_view octets, const Pace& pace, Deadline end) {
    {
        std::lock_guard lock(state_.mutex);
        session_.transcript.note("S: ", octets);
    }
    const auto done = wire_.send(octets, pace, end);
    if (done == Wire::Done::gone) throw Over{End::client};
    // Who takes one endless line after another is never silent, but has had his time.
    if (done == Wire::Done::late || Clock::now() > end) throw Over{End::silence};
}

void ScriptedServer::State::Talk::encrypt(TLSAcceptor& tls) {
    buffer_.clear();
    const auto done = wire_.encrypt(tls.accept(wire_.fd()), patience());
    {
        std::lock_guard lock(state_.mutex);
        const auto* agreed = wire_.tls();
        session_.heard.encrypted = agreed != nullptr;
        session_.heard.server_name = agreed ? agreed->server_name : "";
        session_.transcript.note("-- ", agreed ? agreed->version : "no TLS: " + wire_.error());
    }
    if (done != Wire::Done::all) throw Over{done == Wire::Done::gone ? End::client : End::silence};
}

void ScriptedServer::State::Talk::fill(Deadline end) {
    std::string octets;
    const auto done = wire_.receive(octets, end);
    if (done != Wire::Done::all) throw Over{done == Wire::Done::gone ? End::client : End::silence};
    buffer_ += octets;
    std::lock_guard lock(state_.mutex);
    session_.transcript.note("C: ", octets);
    auto& all = session_.heard.octets;
    all.append(octets, 0, state_.options.keep - std::min(state_.options.keep, all.size()));
}

std::string ScriptedServer::State::Talk::command() {
    std::size_t end;
    for (const auto deadline = patience(); (end = buffer_.find("\r\n")) == buffer_.npos;) {
        if (buffer_.size() > longest_line) throw Over{End::excess};
        fill(deadline);
    }
    if ((kept_ += end) > state_.options.keep) throw Over{End::excess};
    auto said = buffer_.substr(0, end);
    buffer_.erase(0, end + 2);
    std::lock_guard lock(state_.mutex);
    heard(said);
    return said;
}

// With the mutex held.
void ScriptedServer::State::Talk::heard(const std::string& command) {
    auto& h = session_.heard;
    h.commands.push_back(command);
    if (!h.encrypted) h.in_the_clear = h.commands.size();
}

// To the text that has begun last.
void ScriptedServer::State::Talk::append(std::string_view octets) {
    const auto keep = state_.options.keep;
    octets = octets.substr(0, keep - std::min(keep, kept_));
    kept_ += octets.size();
    std::lock_guard lock(state_.mutex);
    session_.heard.texts.back().wire += octets;
}

void ScriptedServer::State::Talk::text() {
    {
        std::lock_guard lock(state_.mutex);
        session_.heard.texts.emplace_back();
    }
    // The line end in front of the first line is that of DATA, and no part of the text.
    constexpr std::string_view mark = "\r\n.\r\n";
    std::size_t foreign = 2;
    std::string window = "\r\n" + std::exchange(buffer_, {});
    const auto pass = [&](std::size_t size) {
        const auto skipped = std::min(foreign, size);
        append(std::string_view(window).substr(skipped, size - skipped));
        foreign -= skipped;
        window.erase(0, size);
    };
    std::size_t end;
    while ((end = window.find(mark)) == window.npos) {
        if (window.size() >= mark.size()) pass(window.size() - (mark.size() - 1));
        try {
            fill(patience());
        } catch (const Over&) {
            pass(window.size());
            throw;
        }
        window += std::exchange(buffer_, {});
    }
    pass(end + 2);
    buffer_ = window.substr(mark.size() - 2);
    {
        std::lock_guard lock(state_.mutex);
        session_.heard.texts.back().complete = true;
        heard(".");
    }
    end_of_text("");
}

void ScriptedServer::State::Talk::chunk(const std::string& command) {
    std::size_t size = 0;
    const auto* const from = command.data() + 5;
    const auto* const stop = command.data() + command.size();
    const auto parsed = std::from_chars(from, stop, size);
    if (parsed.ec != std::errc()) {  // how much follows nobody knows; it will be taken for commands
        answer({Phase::command, command});
        return;
    }
    const auto word = std::string_view(parsed.ptr, std::size_t(stop - parsed.ptr));
    const bool last = begins(word, " LAST");
    if (!std::exchange(chunks_, !last)) {
        std::lock_guard lock(state_.mutex);
        session_.heard.texts.emplace_back().chunks = true;
    }
    while (size > 0) {
        if (buffer_.empty()) fill(patience());
        const auto part = std::min(size, buffer_.size());
        append(std::string_view(buffer_).substr(0, part));
        buffer_.erase(0, part);
        size -= part;
    }
    if (!last) {
        answer({Phase::command, command});
        return;
    }
    {
        std::lock_guard lock(state_.mutex);
        session_.heard.texts.back().complete = true;
    }
    end_of_text(command);
}

// Answers a whole text: by LMTP to each recipient (RFC 2033 4.2), else once. Who has something to say to that very BDAT
// means it instead.
void ScriptedServer::State::Talk::end_of_text(const std::string& last_chunk) {
    const auto recipients = std::exchange(accepted_, {});
    if (!last_chunk.empty()) {
        const Turn turn{Phase::command, last_chunk};
        if (const auto wish = state_.wish(turn, session_.heard.number)) {
            act(*wish);
            return;
        }
    }
    if (!lmtp_) answer({Phase::text_end, "."});
    else if (!last_chunk.empty() && recipients.empty()) act(Act(no_recipients));
    else
        for (const auto& path : recipients) answer({Phase::text_end, ". " + path});
}

// ---- all of them ----

// What is said where no rule fits.
void ScriptedServer::State::polite() {
    const auto& o = options;
    Reply hello{250, "", o.hostname};
    for (const auto& keyword : o.keywords) hello.text += '\n' + keyword;
    const auto rule = [&](std::string command, const Reply& reply) {
        defaults.push_back({When{std::move(command)}, Act(reply)});
    };
    rule("", {220, "", o.hostname + " ESMTP"});
    rule("EHLO", hello);
    rule("LHLO", hello);
    rule("HELO", {250, "", o.hostname});
    rule("MAIL", {250, "2.1.0", "Sender fine"});
    rule("RCPT", {250, "2.1.5", "Recipient fine"});
    rule("DATA", {354, "", "Go on"});
    rule("BDAT", {250, "2.0.0", "Chunk taken"});
    rule(".", {250, "2.0.0", "Taken"});
    rule("RSET", {250, "2.0.0", "Forgotten"});
    rule("NOOP", {250, "2.0.0", "Done"});
    rule("VRFY", {252, "2.5.0", "Perhaps"});
    rule("QUIT", {221, "2.0.0", "Bye"});
}

// With the mutex held.
const ScriptedServer::State::Rule* ScriptedServer::State::fitting(std::vector<Rule>& some, const Turn& turn,
                                                                  std::size_t connection) {
    const Rule* best = nullptr;
    const auto rank = [](const When& w) {
        return std::tuple(w.command.size(), int(w.nth != 0) + int(w.connection != 0));
    };
    for (auto& rule : some) {
        const auto& w = rule.when;
        if (phase_of(w.command) != turn.phase || !begins(turn.command, w.command)) continue;
        if (w.connection != 0 && w.connection != connection) continue;
        ++rule.seen;
        if (w.nth != 0 && w.nth != rule.seen) continue;
        if (!best || rank(best->when) <= rank(w)) best = &rule;
    }
    return best;
}

std::optional<Act> ScriptedServer::State::wish(const Turn& turn, std::size_t connection) {
    std::lock_guard lock(mutex);
    const auto* rule = fitting(rules, turn, connection);
    return rule ? std::optional(rule->act) : std::nullopt;
}

Act ScriptedServer::State::act_for(const Turn& turn, std::size_t connection) {
    if (auto wanted = wish(turn, connection)) return *wanted;
    if (turn.otherwise) return *turn.otherwise;
    std::lock_guard lock(mutex);
    const auto* rule = fitting(defaults, turn, connection);
    return rule ? rule->act : Act(Reply{500, "5.5.1", "Command unknown"});
}

std::size_t ScriptedServer::State::open() const {
    return std::size_t(std::ranges::count(sessions, End::open, [](const Session& s) { return s.heard.end; }));
}

std::vector<Conversation> ScriptedServer::State::snapshot() const {
    std::vector<Conversation> all;
    for (const auto& s : sessions) {
        all.push_back(s.heard);
        all.back().transcript = s.transcript.str();
    }
    return all;
}

// Their threads have nothing more to do.
void ScriptedServer::State::join_ended() {
    std::unique_lock lock(mutex);
    std::vector<std::thread> ended;
    for (auto& s : sessions)
        if (s.over && s.thread.joinable()) ended.push_back(std::move(s.thread));
    lock.unlock();
    for (auto& t : ended) t.join();
}

void ScriptedServer::State::listen() {
    try {
        while (auto connection = server.accept()) {
            join_ended();
            take(std::move(connection));
        }
    } catch (const std::exception&) {
        // nobody comes in any more: a test that waits for somebody is told so
    }
}

void ScriptedServer::State::take(Connection connection) {
    std::lock_guard lock(mutex);
    if (sessions.size() >= most_connections) return;
    // A Connection gives its descriptor away only as a copy.
    auto& session = sessions.emplace_back(fcntl(connection.fd(), F_DUPFD_CLOEXEC, 0));
    session.heard.number = sessions.size();
    session.heard.peer = connection.peer();
    const bool room = session.wire.fd() >= 0 && open() <= most_at_once;
    try {
        if (room)
            session.thread = std::thread([this, &session] {
                Talk(*this, session).run();
                std::lock_guard done(mutex);
                session.over = true;
            });
    } catch (const std::system_error&) {
        // no thread for it
    }
    if (session.thread.joinable()) return;
    session.wire.close();
    session.heard.end = End::excess;
    changed.notify_all();
}

// Nobody comes in any more, and who has come is known.
void ScriptedServer::State::close() {
    std::lock_guard lock(ending);
    server.close();
    if (listener.joinable()) listener.join();
}

ScriptedServer::ScriptedServer() : ScriptedServer(Options()) {}

ScriptedServer::ScriptedServer(Options options) : state_(std::make_unique<State>(std::move(options))) {
    state_->polite();
    state_->listener = std::thread([s = state_.get()] { s->listen(); });
}

ScriptedServer::~ScriptedServer() {
    auto& s = *state_;
    s.close();
    {
        std::lock_guard lock(s.mutex);
        s.stopping = true;
        s.changed.notify_all();
        for (auto& session : s.sessions) session.wire.cut();
    }
    for (auto& session : s.sessions)
        if (session.thread.joinable()) session.thread.join();
}

std::string ScriptedServer::address() const { return state_->server.address(); }
std::uint16_t ScriptedServer::port() const { return state_->server.port(); }

void ScriptedServer::on(const When& when, const Act& act) {
    const auto& c = when.command;
    if (c.starts_with(' ') || c.find_first_of("\r\n") != c.npos ||
        (c.starts_with('.') && c != "." && !c.starts_with(". ")))
        throw std::invalid_argument("ScriptedServer: not the beginning of a command: " + escaped(c));
    std::lock_guard lock(state_->mutex);
    state_->rules.push_back({when, act});
}

std::vector<Conversation> ScriptedServer::conversations() const {
    std::lock_guard lock(state_->mutex);
    return state_->snapshot();
}

std::vector<Conversation> ScriptedServer::wait_for(std::size_t n, milliseconds within) const {
    const auto& s = *state_;
    std::unique_lock lock(s.mutex);
    const auto over = [&] { return s.sessions.size() - s.open(); };
    if (!s.changed.wait_for(lock, within, [&] { return over() >= n; }))
        throw Failure(std::to_string(over()) + " of " + std::to_string(n) + " connections were over after " +
                          std::to_string(within.count()) + " ms",
                      shown(s.snapshot()));
    return s.snapshot();
}

std::vector<Conversation> ScriptedServer::finish(milliseconds within) {
    auto& s = *state_;
    s.close();
    std::unique_lock lock(s.mutex);
    if (!s.changed.wait_for(lock, within, [&] { return s.open() == 0; }))
        throw Failure(
            std::to_string(s.open()) + " connections were open after " + std::to_string(within.count()) + " ms",
            shown(s.snapshot()));
    return s.snapshot();
}

}  // namespace Net::SMTP::Test
