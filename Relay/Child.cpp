#include "Child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <utility>

#include "../Server/Reply.hpp"
#include "../Server/Turns.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto grace = 2s;            // between SIGTERM and SIGKILL, and for SIGKILL
constexpr std::size_t gulp = 16'384;  // of output, on the stack
constexpr unsigned whole_group = 4;   // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

void check(int error, const char* what) {
    if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

// None of ours may be a standard descriptor, which the program may have closed: whatever it says there still would be
// said to the command. errno if there is no other.
Descriptor above_standard(int fd) {
    Descriptor low(fd);
    return fd < 0 || fd > 2 ? std::move(low) : Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

struct NewPipe {
    NewPipe() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) check(errno, "pipe");
        out = Descriptor(ends[0]);
        in = Descriptor(ends[1]);
        out = above_standard(out.release());
        in = above_standard(in.release());
        if (!out || !in) check(EMFILE, "pipe");
    }
    Descriptor out, in;  // where it comes out, where it goes in
};

void never_block(const Descriptor& fd) {
    const int flags = fcntl(fd.get(), F_GETFL);
    if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) check(errno, "fcntl");
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> out;
    out.reserve(strings.size() + 1);
    for (const auto& s : strings) out.push_back(const_cast<char*>(s.c_str()));
    out.push_back(nullptr);
    return out;
}

// What posix_spawn is to do, freed by scope.
struct Actions {
    Actions() { check(posix_spawn_file_actions_init(&it), "posix_spawn"); }
    ~Actions() { posix_spawn_file_actions_destroy(&it); }
    Actions(const Actions&) = delete;
    Actions& operator=(const Actions&) = delete;
    posix_spawn_file_actions_t it;
};

struct Attributes {
    Attributes() {
        check(posix_spawnattr_init(&it), "posix_spawn");
        sigset_t all, none;
        sigfillset(&all);
        sigemptyset(&none);
        posix_spawnattr_setsigdefault(&it, &all);
        posix_spawnattr_setsigmask(&it, &none);
        posix_spawnattr_setpgroup(&it, 0);
        posix_spawnattr_setflags(&it, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    }
    ~Attributes() { posix_spawnattr_destroy(&it); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;
    posix_spawnattr_t it;
};

pid_t spawn(const Child::Start& start, int input, int output) {
    Actions actions;
    check(posix_spawn_file_actions_adddup2(&actions.it, input, 0), "posix_spawn");
    check(posix_spawn_file_actions_adddup2(&actions.it, output, 1), "posix_spawn");
    check(posix_spawn_file_actions_adddup2(&actions.it, output, 2), "posix_spawn");
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34)
    // Ours close by themselves; this is for what the program's other libraries have open.
    check(posix_spawn_file_actions_addclosefrom_np(&actions.it, 3), "posix_spawn");
#endif
    if (!start.folder.empty())
        check(posix_spawn_file_actions_addchdir_np(&actions.it, start.folder.c_str()), "posix_spawn");
    const Attributes attributes;
    const Turns::Pause as_before;  // how our threads are scheduled is not for whom they start
    pid_t pid = -1;
    check(posix_spawn(&pid, start.arguments.at(0).c_str(), &actions.it, &attributes.it,
                      pointers(start.arguments).data(), pointers(start.environment).data()),
          "posix_spawn");
    return pid;
}

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

}  // namespace

Child::Child(const Start& start) {
    line_.reserve(most_said);  // to hear it needs no memory
    NewPipe text, said;
    input_ = std::move(text.in);
    output_ = std::move(said.out);
    never_block(input_);
    never_block(output_);
    pid_ = spawn(start, text.out.get(), said.in.get());
    // As long as the reading end is open here too, writing never raises SIGPIPE. Whether the command still reads is of
    // no interest: its end is.
    reader_ = std::move(text.out);
    handle_ = above_standard(int(syscall(SYS_pidfd_open, pid_, 0)));
    if (handle_) return;
    const int error = errno;
    // Nobody could say when it ends. It has seen nothing of the text, nor the end of it.
    siginfo_t info{};
    if (waitid(P_PID, id_t(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0) kill(-pid_, SIGKILL);
    for (const auto end = Clock::now() + grace; Clock::now() < end; poll(nullptr, 0, 1))
        if (waitid(P_PID, id_t(pid_), &info, WEXITED | WNOHANG) != 0 || info.si_pid != 0) break;
    check(error, "pidfd_open");
}

Child::~Child() {
    if (pid_ < 0) return;
    try {
        kill_and_wait();
    } catch (...) {  // poll(2) without memory; the signal is sent
    }
}

Child::End Child::run(FinalText& text, const Wait& wait) {
    for (;;) {
        turn(wait.look(), &text);
        if (ended_) return reap();
        if (!wait.over()) continue;
        terminate();
        return {End::How::expired};
    }
}

// Waits until something can be done, but no longer than `until`, and does it. Without a text it is fed no more. What it
// said last is heard with its end: poll(2) looks at the descriptors in this order.
void Child::turn(Deadline until, FinalText* text) {
    // A negative descriptor is none to poll(2); one that has ended is always ready.
    pollfd fds[]{
        {ended_ ? -1 : handle_.get(), POLLIN, 0}, {output_.get(), POLLIN, 0}, {text ? input_.get() : -1, POLLOUT, 0}};
    if (poll(fds, 3, milliseconds_until(until)) < 0) {
        if (errno != EINTR) check(errno, "poll");
        return;
    }
    if (fds[0].revents) ended_ = true;
    if (fds[1].revents) hear();
    if (fds[2].revents && !ended_) feed(*text);
}

void Child::feed(FinalText& text) {
    if (rest_.empty()) rest_ = text.next();
    if (!rest_.empty()) {
        const auto n = write(input_.get(), rest_.data(), rest_.size());
        if (n > 0) rest_.remove_prefix(std::size_t(n));
        else if (n < 0 && errno != EAGAIN && errno != EINTR) check(errno, "write to a command");
        return;
    }
    input_.reset();
    reader_.reset();
}

void Child::hear() {
    char octets[gulp];
    const auto n = read(output_.get(), octets, sizeof octets);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return output_.reset();
    for (char c : std::string_view(octets, std::size_t(n))) {
        if (heard_) break;
        if (c == '\n') heard_ = !line_.empty();
        else if (line_.size() < most_said && !(line_.empty() && blank(c))) line_ += c;
    }
}

std::string Child::said() const {
    auto out = line_;
    // The limit may have cut through the last character.
    for (int cut = 0; cut < 3 && line_.size() == most_said && !valid_utf8(out); ++cut) out.pop_back();
    while (!out.empty() && blank(out.back())) out.pop_back();
    const bool utf8 = valid_utf8(out);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const auto c = static_cast<unsigned char>(out[i]);
        if (c == '\t') out[i] = ' ';
        else if (c < 32 || c == 127 || (c > 127 && !utf8)) out[i] = '?';
        // U+0080 to U+009F are control characters too.
        else if (c == 0xC2 && static_cast<unsigned char>(out[i + 1]) < 0xA0) out.replace(i, 2, "?");
    }
    return out;
}

// Who ends on SIGTERM closes the output with it; who keeps it open has until the grace is over.
void Child::terminate() {
    signal(SIGTERM);
    for (const auto end = Clock::now() + grace; !(ended_ && !output_) && Clock::now() < end;) turn(end, nullptr);
    kill_and_wait();
}

// The rest of the group too, and before reaping: until then the group's number is its own.
void Child::kill_and_wait() {
    signal(SIGKILL);
    // It may have gone to another group.
    syscall(SYS_pidfd_send_signal, handle_.get(), SIGKILL, nullptr, 0);
    for (const auto end = Clock::now() + grace; !ended_ && Clock::now() < end;) turn(end, nullptr);
    // Without an end it is in the kernel, and nobody can wait for that; it stays a zombie of ours then.
    reap();
}

// Whether its number is still its own: it is our child, running or not yet reaped.
bool Child::ours() const {
    siginfo_t info{};
    return pid_ > 0 && waitid(P_PIDFD, id_t(handle_.get()), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void Child::signal(int number) const {
    // Where the system can do it, the group is meant whatever has become of the number.
    if (syscall(SYS_pidfd_send_signal, handle_.get(), number, nullptr, whole_group) == 0 || errno == ESRCH) return;
    if (ours()) kill(-pid_, number);
}

Child::End Child::reap() {
    siginfo_t info{};
    const int status = waitid(P_PIDFD, id_t(handle_.get()), &info, WEXITED | WNOHANG);
    pid_ = -1;
    if (status != 0 || info.si_pid == 0) return {End::How::unknown};
    return {info.si_code == CLD_EXITED ? End::How::exited : End::How::killed, info.si_status};
}

}  // namespace Net::SMTP
