// privileges -- becomes another user, and makes sure that there is no way back.
#pragma once

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

// Whom "USER[:GROUP]" names. std::runtime_error when there is no such user or group.
struct Identity {
    uid_t user = 0;
    gid_t group = 0;
    std::string name{};

    explicit Identity(const std::string& text) {
        const auto colon = text.find(':');
        name = text.substr(0, colon);
        const passwd* found = getpwnam(name.c_str());
        if (!found) throw std::runtime_error("no such user: " + name);
        user = found->pw_uid;
        group = found->pw_gid;
        if (colon == text.npos) return;
        const ::group* theirs = getgrnam(text.c_str() + colon + 1);
        if (!theirs) throw std::runtime_error("no such group: " + text.substr(colon + 1));
        group = theirs->gr_gid;
    }
};

// For good: real, effective and saved ids, and the supplementary groups. Threads that exist already are changed too.
// std::system_error; std::runtime_error when root can be had again.
inline void become(const Identity& whom) {
    const auto must = [](int result, const char* what) {
        if (result != 0) throw std::system_error(errno, std::generic_category(), what);
    };
    if (geteuid() != 0) {
        if (geteuid() == whom.user && getuid() == whom.user) return;
        throw std::system_error(EPERM, std::generic_category(), "only root can become " + whom.name);
    }
    must(initgroups(whom.name.c_str(), whom.group), "initgroups");
    must(setresgid(whom.group, whom.group, whom.group), "setresgid");
    must(setresuid(whom.user, whom.user, whom.user), "setresuid");
    if (whom.user != 0 && (setuid(0) == 0 || seteuid(0) == 0 || geteuid() != whom.user || getegid() != whom.group))
        throw std::runtime_error("privileges could not be given up");
}

// Makes a folder that belongs to them, where there is none; its parent must be there. std::system_error.
inline void make_folder(const std::string& path, const Identity* owner) {
    if (mkdir(path.c_str(), 0700) != 0) {
        if (errno == EEXIST) return;
        throw std::system_error(errno, std::generic_category(), path);
    }
    if (owner && geteuid() == 0 && lchown(path.c_str(), owner->user, owner->group) != 0)
        throw std::system_error(errno, std::generic_category(), path);
}

// As long as it lives root acts as somebody else, and can come back: what is made meanwhile is theirs. With null, and
// for who is not root, it does nothing. std::system_error.
class Acting {
public:
    explicit Acting(const Identity* whom) : acts_(whom && geteuid() == 0) {
        if (!acts_) return;
        before_.resize(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
        const bool fine = getgroups(static_cast<int>(before_.size()), before_.data()) >= 0 &&
                          initgroups(whom->name.c_str(), whom->group) == 0 && setegid(whom->group) == 0 &&
                          seteuid(whom->user) == 0;
        if (fine) return;
        const int error = errno;
        back();
        throw std::system_error(error, std::generic_category(), "act as " + whom->name);
    }
    ~Acting() { back(); }
    Acting(const Acting&) = delete;
    Acting& operator=(const Acting&) = delete;

private:
    void back() {
        if (!acts_) return;
        // Nothing may go on with half of somebody else's rights.
        if (seteuid(0) != 0 || setegid(0) != 0 || setgroups(before_.size(), before_.data()) != 0) std::abort();
    }

    const bool acts_;
    std::vector<gid_t> before_{};
};
