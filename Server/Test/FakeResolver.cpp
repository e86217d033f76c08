#include "FakeResolver.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>

#include "../Address.hpp"

namespace Net::SMTP::Test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int longest_chain = 8;  // of CNAMEs

[[noreturn]] void malformed(std::string_view what, std::string_view text) {
    throw std::invalid_argument("FakeResolver: " + std::string(what) + ": " + std::string(text));
}

// Without the dot behind it, in lower case; what is compared.
std::string plain(std::string_view name) {
    if (name.size() > 1 && name.ends_with('.')) name.remove_suffix(1);
    return lower_case(name);
}

// RFC 1035 2.3.4: labels of 63 octets at most, 255 in all on the wire. nullopt when it can be no name.
std::optional<std::string> wire_name(std::string_view name) {
    if (name == ".") return std::string(1, '\0');
    if (name.ends_with('.')) name.remove_suffix(1);
    std::string out;
    for (bool more = true; more;) {
        const auto dot = name.find('.');
        const auto label = name.substr(0, dot);
        const auto odd = [](unsigned char c) { return c <= 32 || c == 127 || c == '\\'; };
        if (label.empty() || label.size() > 63 || std::ranges::any_of(label, odd)) return std::nullopt;
        out.append(1, char(label.size())).append(label);
        more = dot != name.npos;
        if (more) name.remove_prefix(dot + 1);
    }
    out += '\0';
    return out.size() <= 255 ? std::optional(out) : std::nullopt;
}

// What is left of a record, word by word.
struct Words {
    std::string_view rest;
    std::string_view whole;

    explicit Words(std::string_view record) : rest(record), whole(record) {}
    bool more() {
        rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
        return !rest.empty();
    }
    std::string_view word() {
        if (!more()) malformed("not a record", whole);
        const auto end = std::min(rest.find_first_of(" \t"), rest.size());
        const auto out = rest.substr(0, end);
        rest.remove_prefix(end);
        return out;
    }
    unsigned number(unsigned most) {
        const auto text = word();
        unsigned n = 0;
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), n);
        if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || n > most)
            malformed("not a record", whole);
        return n;
    }
    std::string name() {
        auto out = wire_name(word());
        if (!out) malformed("not a record", whole);
        return *out;
    }
    std::string address(int family, std::size_t size) {
        std::string octets(size, '\0');
        if (inet_pton(family, std::string(word()).c_str(), octets.data()) != 1) malformed("not a record", whole);
        return octets;
    }
    // A string of a master file, its length in front (RFC 1035 3.3).
    std::string character_string();
    std::string hexadecimal();
};

std::string Words::character_string() {
    if (!more()) malformed("not a record", whole);
    const bool quoted = rest.front() == '"';
    if (quoted) rest.remove_prefix(1);
    std::string out;
    for (;; rest.remove_prefix(1)) {
        if (rest.empty()) {
            if (quoted) malformed("a string without its end", whole);
            break;
        }
        const char c = rest.front();
        if (quoted ? c == '"' : c == ' ' || c == '\t') break;
        if (c != '\\') {
            if (c == '"') malformed("not a record", whole);
            out += c;
            continue;
        }
        rest.remove_prefix(1);
        if (rest.empty()) malformed("not a record", whole);
        if (rest.front() < '0' || rest.front() > '9') {
            out += rest.front();
            continue;
        }
        unsigned octet = 0;
        const auto digits = rest.substr(0, 3);
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), octet);
        if (digits.size() != 3 || parsed.ptr != digits.data() + 3 || octet > 255) malformed("not a record", whole);
        out += char(octet);
        rest.remove_prefix(2);
    }
    if (quoted) rest.remove_prefix(1);
    if (out.size() > 255) malformed("a string longer than 255 octets", whole);
    return char(out.size()) + out;
}

std::string Words::hexadecimal() {
    std::string digits, out;
    while (more()) digits += word();
    for (std::size_t i = 0; i < digits.size(); i += 2) {
        unsigned octet = 0;
        const auto* const from = digits.data() + i;
        if (i + 1 == digits.size() || std::from_chars(from, from + 2, octet, 16).ptr != from + 2)
            malformed("not a record", whole);
        out += char(octet);
    }
    if (out.empty()) malformed("not a record", whole);
    return out;
}

struct Record {
    RecordType type;
    std::string data;  // RDATA; of a CNAME the name it leads to, as text
    bool alias() const { return type == RecordType::CNAME; }
};

Record parsed(std::string_view text) {
    Words words(text);
    const auto type = words.word();
    Record record{};
    if (same_text(type, "A")) {
        record = {RecordType::A, words.address(AF_INET, 4)};
    } else if (same_text(type, "AAAA")) {
        record = {RecordType::AAAA, words.address(AF_INET6, 16)};
    } else if (same_text(type, "MX")) {
        const auto preference = words.number(65535);
        record = {RecordType::MX, std::string{char(preference >> 8), char(preference & 255)} + words.name()};
    } else if (same_text(type, "TXT")) {
        record = {RecordType::TXT, words.character_string()};
        while (words.more()) record.data += words.character_string();
    } else if (same_text(type, "TLSA")) {
        std::string head;
        for (int i = 0; i < 3; ++i) head += char(words.number(255));
        record = {RecordType::TLSA, head + words.hexadecimal()};
    } else if (same_text(type, "CNAME")) {
        const auto other = words.word();
        if (!wire_name(other)) malformed("not a record", text);
        record = {RecordType::CNAME, std::string(other)};
    } else {
        malformed("a type it does not know", text);
    }
    if (words.more()) malformed("not a record", text);
    return record;
}

}  // namespace

struct FakeResolver::State {
    struct Trouble {
        enum class Kind { fail, stall, delay };
        Kind kind;
        Type type;
        milliseconds time{0};
    };
    struct Name {
        std::vector<Record> records;
        std::vector<Trouble> troubles;
        bool secure = false;
    };

    mutable std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, Name> names;  // by plain()
    std::vector<Question> questions;
    std::size_t healed = 0;  // how often: who did not hold the lock meanwhile looks again

    Name& at(const std::string& name);
    const Name* find(const std::string& name) const;
    const Trouble* trouble(const std::string& name, RecordType, Trouble::Kind) const;
    bool exists(const std::string& name) const;
    // Waits until `name` is answered; false when the wait is over before.
    bool answered(std::unique_lock<std::mutex>&, const std::string& name, RecordType, const Wait&);
};

FakeResolver::State::Name& FakeResolver::State::at(const std::string& name) {
    if (name == "." || !wire_name(name)) malformed("not a name", name);
    return names[plain(name)];
}

const FakeResolver::State::Name* FakeResolver::State::find(const std::string& name) const {
    const auto found = names.find(name);
    return found == names.end() ? nullptr : &found->second;
}

const FakeResolver::State::Trouble* FakeResolver::State::trouble(const std::string& name, RecordType type,
                                                                 Trouble::Kind kind) const {
    const auto* n = find(name);
    if (!n) return nullptr;
    const Trouble* last = nullptr;
    for (const auto& t : n->troubles)
        if (t.kind == kind && (!t.type || *t.type == type)) last = &t;
    return last;
}

// It has records, or a name below it has (RFC 4592 2.2.2).
bool FakeResolver::State::exists(const std::string& name) const {
    return std::ranges::any_of(names, [&](const auto& entry) {
        return !entry.second.records.empty() && (entry.first == name || entry.first.ends_with('.' + name));
    });
}

bool FakeResolver::State::answered(std::unique_lock<std::mutex>& lock, const std::string& name, RecordType type,
                                   const Wait& wait) {
    using Kind = Trouble::Kind;
    const auto began = Clock::now();
    for (;;) {
        const auto* late = trouble(name, type, Kind::delay);
        const bool stalled = trouble(name, type, Kind::stall) != nullptr;
        const auto due = late ? began + late->time : began;
        if (!stalled && Clock::now() >= due) return true;
        const auto before = healed;
        lock.unlock();  // what calls it off is somebody else's code
        const bool over = wait.over();
        const auto look = wait.look();
        lock.lock();
        if (over) return false;
        if (healed != before) continue;
        // Not for ever at once: some systems' clocks can't hold that.
        changed.wait_until(lock,
                           std::min({look, stalled ? Deadline::max() : due, Clock::now() + std::chrono::hours(1)}));
    }
}

FakeResolver::FakeResolver() : state_(std::make_unique<State>()) {}
FakeResolver::~FakeResolver() = default;

void FakeResolver::add(const std::string& name, std::string_view record) {
    auto one = parsed(record);
    std::lock_guard lock(state_->mutex);
    auto& records = state_->at(name).records;
    if (std::ranges::any_of(records, [&](const Record& r) { return r.alias() || one.alias(); }))
        malformed("a CNAME beside another record of " + name, record);
    records.push_back(std::move(one));
}

void FakeResolver::remove(const std::string& name) {
    std::lock_guard lock(state_->mutex);
    state_->at(name).records.clear();
}

void FakeResolver::fail(const std::string& name, Type type) {
    std::lock_guard lock(state_->mutex);
    state_->at(name).troubles.push_back({State::Trouble::Kind::fail, type});
}

void FakeResolver::stall(const std::string& name, Type type) {
    std::lock_guard lock(state_->mutex);
    state_->at(name).troubles.push_back({State::Trouble::Kind::stall, type});
}

void FakeResolver::delay(const std::string& name, milliseconds time, Type type) {
    std::lock_guard lock(state_->mutex);
    state_->at(name).troubles.push_back({State::Trouble::Kind::delay, type, time});
}

void FakeResolver::secure(const std::string& name) {
    std::lock_guard lock(state_->mutex);
    state_->at(name).secure = true;
}

void FakeResolver::heal(const std::string& name) {
    std::lock_guard lock(state_->mutex);
    auto& n = state_->at(name);
    n.troubles.clear();
    n.secure = false;
    ++state_->healed;
    state_->changed.notify_all();
}

Records FakeResolver::query(const std::string& name, RecordType type, const Wait& wait) {
    using Status = Records::Status;
    auto& s = *state_;
    std::unique_lock lock(s.mutex);
    s.questions.push_back({name, type});
    if (name == "." || !wire_name(name)) return {.status = Status::no_domain, .error = "not a name: " + name};
    Records out{.status = Status::failed, .secure = true};
    auto at = plain(name);
    for (int links = 0; links <= longest_chain; ++links) {
        if (!s.answered(lock, at, type, wait)) return {.status = Status::timeout, .error = at + ": no answer in time"};
        if (s.trouble(at, type, State::Trouble::Kind::fail))
            return {.status = Status::failed, .error = at + ": SERVFAIL"};
        const auto* found = s.find(at);
        out.secure = out.secure && found && found->secure;
        if (found && !found->records.empty() && found->records.front().alias()) {
            const auto& leads_to = found->records.front().data;
            if (type == RecordType::CNAME) {
                out.status = Status::found;
                out.data = {wire_name(leads_to).value_or("")};
                return out;
            }
            out.canonical = at = plain(leads_to);
            continue;
        }
        if (found)
            for (const auto& r : found->records)
                if (r.type == type) out.data.push_back(r.data);
        if (!out.data.empty()) {
            out.status = Status::found;
            return out;
        }
        const bool there = s.exists(at);
        out.status = there ? Status::no_data : Status::no_domain;
        out.error =
            there ? at + ": no record of the type " + std::string(Net::SMTP::name(type)) : at + ": no such name";
        return out;
    }
    return {.status = Status::failed, .error = name + ": CNAMEs without an end"};
}

std::vector<FakeResolver::Question> FakeResolver::questions() const {
    std::lock_guard lock(state_->mutex);
    return state_->questions;
}

std::size_t FakeResolver::asked() const {
    std::lock_guard lock(state_->mutex);
    return state_->questions.size();
}

std::size_t FakeResolver::asked(const std::string& name, Type type) const {
    std::lock_guard lock(state_->mutex);
    return std::size_t(std::ranges::count_if(state_->questions, [&](const Question& q) {
        return plain(q.name) == plain(name) && (!type || q.type == *type);
    }));
}

}  // namespace Net::SMTP::Test
