#include "ScriptedClient.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "Wire.hpp"

namespace Net::SMTP::Test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t longest_line = 510;          // RFC 5321 4.5.3.1.5: 512 with CRLF
constexpr std::size_t longest_wait = 1024 * 1024;  // for a line end
constexpr int most_lines = 10'000;                 // of a reply
constexpr std::size_t most_heard = 256 * 1024 * 1024;

bool digit(char c) { return c >= '0' && c <= '9'; }

struct Step {
    char who;  // S: a reply, C: a line, c: octets without a line end
    std::string text;
    bool end() const { return who != 'c' && text == "EOF"; }
    bool reset() const { return who == 'C' && text == "RESET"; }
    bool speaks() const { return who != 'S' && !end() && !reset(); }
    std::string octets() const { return unescaped(text) + (who == 'C' ? "\r\n" : ""); }
};

std::vector<Step> steps(std::string_view script) {
    std::vector<Step> out;
    while (!script.empty()) {
        const auto end = std::min(script.find('\n'), script.size());
        auto line = script.substr(0, end);
        script.remove_prefix(std::min(end + 1, script.size()));
        line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
        if (line.empty() || line.starts_with("//")) continue;
        if (line.size() < 2 || line[1] != ':' || std::string_view("SCc").find(line[0]) == std::string_view::npos ||
            (line.size() > 2 && line[2] != ' '))
            throw std::invalid_argument("no step of a dialogue: " + std::string(line));
        out.push_back({line[0], std::string(line.substr(std::min<std::size_t>(3, line.size())))});
        if (out.back().speaks()) static_cast<void>(out.back().octets());
    }
    return out;
}

}  // namespace

struct ScriptedClient::State {
    explicit State(int fd) : wire(fd) {}
    Wire wire;
    std::string buffer, heard;
    Transcript transcript;
};

ScriptedClient::ScriptedClient(const std::string& address, milliseconds within)
    : ScriptedClient(connected(address, Clock::now() + within)) {}

ScriptedClient::ScriptedClient(const Endpoint& address, milliseconds within) : ScriptedClient(address.str(), within) {}

ScriptedClient::ScriptedClient(int fd) : state_(std::make_unique<State>(fd)) {}

ScriptedClient::~ScriptedClient() = default;
ScriptedClient::ScriptedClient(ScriptedClient&&) noexcept = default;
ScriptedClient& ScriptedClient::operator=(ScriptedClient&&) noexcept = default;

std::pair<ScriptedClient, int> ScriptedClient::pair() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        throw std::system_error(errno, std::generic_category(), "socketpair");
    return {ScriptedClient(fds[0]), fds[1]};
}

int ScriptedClient::fd() const { return state_->wire.fd(); }
const std::string& ScriptedClient::heard() const { return state_->heard; }
const std::string& ScriptedClient::transcript() const { return state_->transcript.str(); }
void ScriptedClient::fail(const std::string& what) const { throw Failure(what, transcript()); }

Deadline ScriptedClient::end_of(Within within) const { return Clock::now() + within.value_or(patience); }

// ---- saying ----

bool ScriptedClient::send(std::string_view octets, const Pace& pace) {
    auto& s = *state_;
    s.transcript.note("C: ", octets);
    const auto done = s.wire.send(octets, pace, end_of({}));
    if (done == Wire::Done::late) fail("nobody reads what is sent");
    if (done == Wire::Done::gone) s.transcript.note("-- ", s.wire.error());
    return done == Wire::Done::all;
}

void ScriptedClient::half_close() {
    state_->transcript.note("C: ", "EOF");
    state_->wire.half_close();
}

void ScriptedClient::reset() {
    state_->transcript.note("C: ", "RESET");
    state_->wire.reset();
}

void ScriptedClient::close() { state_->wire.close(); }

// ---- hearing ----

std::string ScriptedClient::receive_until(Deadline end) {
    auto& s = *state_;
    std::string octets;
    const auto done = s.wire.receive(octets, end);
    if (done == Wire::Done::late) fail("no answer in time; rest: " + escaped(s.buffer));
    if (done == Wire::Done::gone) s.transcript.note("S: ", s.wire.error().empty() ? "EOF" : s.wire.error());
    if (s.heard.size() + octets.size() > most_heard) fail("more was said than a dialogue can be");
    s.heard += octets;
    return octets;
}

std::string ScriptedClient::line_until(Deadline end) {
    auto& buffer = state_->buffer;
    std::size_t scanned = 0, stop;
    while ((stop = buffer.find('\n', scanned)) == buffer.npos) {
        scanned = buffer.size();
        if (scanned > longest_wait) fail("a line does not end: " + escaped(std::string_view(buffer).substr(0, 100)));
        const auto octets = receive_until(end);
        if (octets.empty()) fail("the connection ended, but a reply was expected; rest: " + escaped(buffer));
        buffer += octets;
    }
    auto line = buffer.substr(0, stop + 1);
    buffer.erase(0, stop + 1);
    state_->transcript.note("S: ", line);
    if (line.size() < 2 || line[line.size() - 2] != '\r') fail("a line does not end in CRLF");
    line.resize(line.size() - 2);
    if (std::ranges::any_of(line, [](unsigned char c) { return c < 32 || c == 127; }))
        fail("a control character in a reply: " + escaped(line));
    if (line.size() > longest_line) fail("a reply line is too long: " + std::to_string(line.size() + 2) + " octets");
    return line;
}

std::string ScriptedClient::reply_until(Deadline end) {
    std::string all;
    for (int n = 0; n < most_lines; ++n) {
        const auto one = line_until(end);
        if (one.size() < 4 || !std::all_of(one.begin(), one.begin() + 3, digit) || (one[3] != ' ' && one[3] != '-') ||
            (!all.empty() && all.compare(0, 3, one, 0, 3) != 0))
            fail("no reply: " + escaped(one));
        all += (all.empty() ? "" : "\n") + one;
        if (one[3] == ' ') return all;
    }
    fail("a reply does not end");
}

std::string ScriptedClient::receive(Within within) {
    if (!state_->buffer.empty()) return std::exchange(state_->buffer, {});
    return receive_until(end_of(within));
}
std::string ScriptedClient::line(Within within) { return line_until(end_of(within)); }
std::string ScriptedClient::reply(Within within) { return reply_until(end_of(within)); }

std::string ScriptedClient::expect(std::string_view beginning, Within within) {
    auto got = reply(within);
    auto first = got.substr(0, got.find('\n'));
    first[3] = ' ';
    if (!first.starts_with(beginning)) fail("expected: " + std::string(beginning) + ", got: " + got);
    return got;
}

int ScriptedClient::ask(std::string_view line) {
    say(line);
    return std::stoi(reply());
}

void ScriptedClient::expect_end(Within within) {
    const auto& buffer = state_->buffer;
    if (!buffer.empty()) fail("expected the end, got: " + escaped(buffer));
    const auto octets = receive(within);
    if (!octets.empty()) fail("expected the end, got: " + escaped(octets));
}

void ScriptedClient::expect_silence(milliseconds time) {
    auto& s = *state_;
    if (!s.buffer.empty()) fail("expected silence, got: " + escaped(s.buffer));
    std::string octets;
    const auto done = s.wire.receive(octets, Clock::now() + time);
    if (done == Wire::Done::late) return;
    s.heard += octets;
    fail(octets.empty() ? "expected silence, got the end" : "expected silence, got: " + escaped(octets));
}

// ---- TLS ----

void ScriptedClient::encrypt(std::unique_ptr<TLSLayer> layer) {
    auto& s = *state_;
    if (!s.buffer.empty()) fail("in the clear before the handshake: " + escaped(s.buffer));
    const auto done = s.wire.encrypt(std::move(layer), end_of({}));
    if (done == Wire::Done::late) fail("the handshake was not over in time");
    if (done == Wire::Done::gone) fail("the handshake failed: " + s.wire.error());
    s.transcript.note("-- ", tls()->version + ' ' + tls()->cipher);
}

const TLS* ScriptedClient::tls() const { return state_->wire.tls(); }

// ---- dialogues ----

void ScriptedClient::play(std::string_view script, const Pace& pace) {
    const auto all = steps(script);
    std::size_t said = 0;  // steps before this one have been said already
    if (pace.whole) {
        std::string together;
        for (; said < all.size() && !all[said].reset(); ++said)
            if (all[said].speaks()) together += all[said].octets();
        send(together, pace);
    }
    bool within = false;  // a reply that is compared line by line
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& s = all[i];
        if (s.who == 'S' && s.end()) {
            expect_end();
        } else if (s.who == 'S') {
            const bool more = s.text.size() > 3 && s.text[3] == '-';
            if (!more && !within) {
                expect(s.text);
            } else if (const auto got = line(); !got.starts_with(s.text)) {
                fail("expected: " + s.text + ", got: " + got);
            }
            within = more;
        } else if (s.end()) {
            half_close();
        } else if (s.reset()) {
            reset();
        } else if (i >= said) {
            std::string group = s.octets();
            while (i + 1 < all.size() && all[i + 1].speaks()) group += all[++i].octets();
            auto cut = pace;
            cut.seed += unsigned(i);  // not every group in the same places
            send(group, cut);
        }
    }
}

}  // namespace Net::SMTP::Test
