#include "Pipe.hpp"

#include <sysexits.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "Child.hpp"
#include "FinalText.hpp"

namespace Net::SMTP {

namespace {

constexpr std::string_view usual_path = "PATH=/usr/local/bin:/usr/bin:/bin";

struct Meaning {
    int exit_code;
    Reply reply;
};

const std::array<Meaning, 16> meanings{{
    {EX_OK, {250, "2.0.0", "Delivered"}},
    {EX_USAGE, {554, "5.3.0", "The command was called in a wrong way"}},
    {EX_DATAERR, {554, "5.6.0", "The command can't use the message"}},
    {EX_NOINPUT, {554, "5.3.0", "The command misses a file"}},
    {EX_NOUSER, {550, "5.1.1", "No such user"}},
    {EX_NOHOST, {550, "5.1.2", "No such host"}},
    {EX_UNAVAILABLE, {554, "5.3.0", "The command has no service for it"}},
    {EX_SOFTWARE, {554, "5.3.0", "The command failed"}},
    {EX_OSERR, {451, "4.3.0", "The system failed the command"}},
    {EX_OSFILE, {554, "5.3.0", "The command misses a file of the system"}},
    {EX_CANTCREAT, {550, "5.2.0", "The command can't create a file"}},
    {EX_IOERR, {451, "4.3.0", "The command could not read or write"}},
    {EX_TEMPFAIL, {451, "4.3.0", "The command wants to be asked again"}},
    {EX_PROTOCOL, {554, "5.5.0", "The command did not understand another"}},
    {EX_NOPERM, {550, "5.7.0", "The command is not allowed to"}},
    {EX_CONFIG, {451, "4.3.5", "The command is not set up"}},
}};

bool control(unsigned char c) { return c < 32 || c == 127; }

bool holds_nul(const std::string& s) { return s.find('\0') != s.npos; }

// A name in the environment's entry.
std::string_view variable(std::string_view entry) { return entry.substr(0, entry.find('=')); }

struct Value {
    std::string_view placeholder;
    std::string text;
};
using Values = std::array<Value, 5>;

// One pass: what was put in is not looked at again.
std::string filled(std::string_view argument, const Values& values) {
    std::string out;
    while (!argument.empty()) {
        const auto found =
            std::ranges::find_if(values, [&](const Value& v) { return argument.starts_with(v.placeholder); });
        if (found == values.end()) {
            const auto plain = std::min(argument.find('{', 1), argument.size());
            out += argument.substr(0, plain);
            argument.remove_prefix(plain);
        } else {
            out += found->text;
            argument.remove_prefix(found->placeholder.size());
        }
    }
    return out;
}

// nullopt when an argument would become an option by what is put into it.
std::optional<std::vector<std::string>> arguments(const std::vector<std::string>& command, const Values& values) {
    std::vector<std::string> out{command.front()};
    for (auto argument = command.begin() + 1; argument != command.end(); ++argument) {
        out.push_back(filled(*argument, values));
        if (out.back().starts_with('-') && !argument->starts_with('-')) return std::nullopt;
    }
    return out;
}

std::vector<std::string> environment(const Pipe::Options& options, const Sender& from, const Recipient& to) {
    auto out = options.environment;
    if (std::ranges::find(out, "PATH", variable) == out.end()) out.emplace_back(usual_path);
    out.push_back("SENDER=" + from.str());
    out.push_back("RECIPIENT=" + to.str());
    return out;
}

// What keeps a program from being started, until somebody mends it.
bool wrongly_set_up(int error) {
    constexpr std::array errors{ENOENT, ENOTDIR, EACCES, EPERM, ENOEXEC, ELIBBAD, ELOOP, EISDIR, ENAMETOOLONG, EINVAL};
    return std::ranges::find(errors, error) != errors.end();
}

Reply not_started(const std::error_code& error) {
    if (wrongly_set_up(error.value())) return {451, "4.3.5", "The command could not be started: " + error.message()};
    return {451, "4.3.0", "The command could not be started: " + error.message()};
}

Reply answer(const Child::End& end) {
    const auto number = std::to_string(end.value);
    switch (end.how) {
        case Child::End::How::expired: return {451, "4.4.7", "The command did not end in time"};
        case Child::End::How::killed: return {451, "4.3.0", "The command was ended by signal " + number};
        case Child::End::How::unknown: return {451, "4.3.0", "Nobody knows how the command ended"};
        case Child::End::How::exited: break;
    }
    const auto found = std::ranges::find(meanings, end.value, &Meaning::exit_code);
    if (found != meanings.end()) return found->reply;
    return {451, "4.3.0", "The command ended with code " + number};
}

}  // namespace

Pipe::Pipe(std::vector<std::string> command) : Pipe(std::move(command), Options()) {}

Pipe::Pipe(std::vector<std::string> command, const Options& options) : command_(std::move(command)), options_(options) {
    if (command_.empty()) throw std::invalid_argument("a command has no program");
    for (const auto& argument : command_)
        if (holds_nul(argument)) throw std::invalid_argument("a command holds a NUL: " + argument);
    if (!command_.front().starts_with('/'))
        throw std::invalid_argument("a command's path is not absolute: " + command_.front());
    if (holds_nul(options_.folder) || !(options_.folder.empty() || options_.folder.starts_with('/')))
        throw std::invalid_argument("a command's folder is not absolute: " + options_.folder);
    for (const auto& entry : options_.environment) {
        const auto name = variable(entry);
        if (name.empty() || name.size() == entry.size() || holds_nul(entry) || name == "SENDER" || name == "RECIPIENT")
            throw std::invalid_argument("this can't be in a command's environment: " + entry);
    }
    if (options_.deadline < std::chrono::seconds(1) || options_.deadline > std::chrono::hours(24))
        throw std::invalid_argument("a command's deadline can't be " + std::to_string(options_.deadline.count()) +
                                    " seconds");
}

std::string Pipe::name() const { return "pipe:" + command_.front(); }

std::vector<Reply> Pipe::deliver(const Sender& from, std::span<const Recipient> to, const Message& message,
                                 const std::string& head, const Wait& wait) {
    std::vector<Reply> out;
    out.reserve(to.size());
    for (const auto& recipient : to) try {
            out.push_back(run(from, recipient, message, head, wait));
        } catch (const std::bad_alloc&) {  // the others may have it
            out.push_back({451, "4.3.0", "No memory"});
        }
    return out;
}

Reply Pipe::run(const Sender& from, const Recipient& to, const Message& message, const std::string& head,
                const Wait& wait) const {
    const Values values{{{"{sender}", from.str()},
                         {"{recipient}", to.str()},
                         {"{local}", to.unquoted()},
                         {"{domain}", to.domain},
                         {"{id}", message.id()}}};
    for (const auto& value : values)
        if (std::ranges::any_of(value.text, control))
            return {553, "5.1.3", "An address with control characters can't be given to a command"};
    auto filled_in = arguments(command_, values);
    if (!filled_in) return {553, "5.1.3", "The address looks like an option of the command"};

    const auto limit = wait.within(std::chrono::steady_clock::now() + options_.deadline);
    if (limit.over()) return {451, "4.4.7", "There was no time left for the command"};
    std::optional<FinalText> text;
    std::optional<Child> child;
    try {
        text.emplace(from, head, message, options_.line_ends);
    } catch (const std::system_error& e) {
        return {451, "4.3.0", "The message could not be read: " + e.code().message()};
    }
    try {
        child.emplace(Child::Start{std::move(*filled_in), environment(options_, from, to), options_.folder});
    } catch (const std::system_error& e) {
        return not_started(e.code());
    }
    // What is said of success is there before it is: a lack of memory must not have the mail delivered again.
    auto reply = answer({Child::End::How::exited, 0});
    try {
        if (const auto end = child->run(*text, limit); end.how != Child::End::How::exited || end.value != 0)
            reply = answer(end);
        try {
            if (const auto said = child->said(); !said.empty()) reply.text += ": " + said;
        } catch (const std::bad_alloc&) {
        }
        return reply;
    } catch (const std::system_error& e) {
        return {451, "4.3.0", "The message could not be given to the command: " + e.code().message()};
    }
}

}  // namespace Net::SMTP
